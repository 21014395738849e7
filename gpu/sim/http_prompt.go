package sim

import (
	"encoding/json"
	"net/http"
	"strconv"
	"time"

	"github.com/google/uuid"
)

// submission is the body of POST /prompt.
type submission struct {
	Prompt   json.RawMessage `json:"prompt"`
	ClientID *string         `json:"client_id"`
	PromptID json.RawMessage `json:"prompt_id"`
	Number   json.RawMessage `json:"number"`
	Front    bool            `json:"front"`
	Extra    json.RawMessage `json:"extra_data"`
	Targets  []string        `json:"partial_execution_targets"`
}

// getPrompt is GET /prompt.
func (s *Server) getPrompt(w http.ResponseWriter, _ *http.Request) {
	reply(w, http.StatusOK, s.queueInfo())
}

// postPrompt is POST /prompt: numbers are taken before anything is judged, malformed bodies are bare 500s, and one
// valid output is enough.
func (s *Server) postPrompt(w http.ResponseWriter, r *http.Request) {
	raw, ok := s.body(w, r)
	if !ok {
		return
	}
	var in submission
	if json.Unmarshal(raw, &in) != nil {
		trouble(w)
		return
	}
	it := &item{created: time.Now().UnixMilli()}
	if !s.takeNumber(it, in) {
		trouble(w)
		return
	}
	if s.faults.has("reject-all") {
		s.refuse(w, refuse("prompt_outputs_failed_validation", "Prompt outputs failed validation", "refused by the simulator's reject-all fault", nil))
		return
	}
	if in.Prompt == nil {
		s.refuse(w, refuse("no_prompt", "No prompt provided", "No prompt provided", nil))
		return
	}
	if it.id, ok = promptID(in.PromptID); !ok {
		s.refuse(w, refuse("invalid_prompt_id", "prompt_id must be a valid UUID",
			"prompt_id must be a UUID string in canonical lowercase hyphenated form; omit it to let the server generate one", nil))
		return
	}
	g, err := parseGraph(in.Prompt)
	if err != nil {
		trouble(w)
		return
	}
	it.graph = g
	v, literals := s.validate(g, in.Targets)
	if v.problem != nil {
		s.log.error("invalid prompt: %s", v.problem.Message)
		s.refuse(w, v)
		return
	}
	it.outputs, it.literals = v.outputs, literals
	if it.fillExtra(in) != nil {
		trouble(w)
		return
	}
	if s.enqueue(it) != nil {
		trouble(w) // but it is queued and will run
		return
	}
	reply(w, http.StatusOK, ordered{{"prompt_id", it.id}, {"number", it.shown}, {"node_errors", v.errors}})
}

func (s *Server) refuse(w http.ResponseWriter, v verdict) {
	reply(w, http.StatusBadRequest, ordered{{"error", v.problem}, {"node_errors", v.errors}})
}

// takeNumber gives the item its place in the queue.
func (s *Server) takeNumber(it *item, in submission) bool {
	if in.Number != nil {
		var given any
		if decode(in.Number, &given) != nil {
			return false
		}
		f, err := toFloat(given)
		if err != nil {
			return false
		}
		it.number = f.(float64)
		it.shown = json.RawMessage(pyFloat(it.number).String())
		return json.Valid(it.shown)
	}
	s.mu.Lock()
	n := s.counter
	s.counter++
	s.mu.Unlock()
	if in.Front {
		n = -n
	}
	it.number, it.shown = float64(n), json.RawMessage(strconv.FormatInt(n, 10))
	return true
}

// promptID is the client's id if it is a canonical UUID, or a new one if it gave none.
func promptID(raw json.RawMessage) (string, bool) {
	if raw == nil || string(raw) == "null" {
		return uuid.NewString(), true
	}
	var id string
	if json.Unmarshal(raw, &id) != nil {
		return "", false
	}
	u, err := uuid.Parse(id)
	return id, err == nil && u.String() == id
}

// fillExtra makes extra_data as it is shown: the client's keys without secrets, then client_id and create_time.
func (i *item) fillExtra(in submission) error {
	shown := ordered{}
	if in.Extra != nil && string(in.Extra) != "null" {
		err := eachField(in.Extra, func(key string, value json.RawMessage) error {
			switch key {
			case "auth_token_comfy_org", "api_key_comfy_org", "client_id", "create_time":
				return nil
			case "preview_method":
				_ = json.Unmarshal(value, &i.preview) // another type is simply no choice
			case "extra_pnginfo":
				_ = eachField(value, func(key string, value json.RawMessage) error {
					i.pngInfo = append(i.pngInfo, field{key, value})
					var flow struct{ ID string }
					if key == "workflow" && json.Unmarshal(value, &flow) == nil {
						i.flow = flow.ID
					}
					return nil
				})
			}
			shown = append(shown, field{key, value})
			return nil
		})
		if err != nil {
			return err
		}
	}
	if in.ClientID != nil {
		i.clientID = *in.ClientID
		shown = append(shown, field{"client_id", i.clientID})
	}
	raw, err := json.Marshal(append(shown, field{"create_time", i.created}))
	i.extra = raw
	return err
}

// enqueue adds the item and tells everybody. errTie says that Python would have failed after adding it.
func (s *Server) enqueue(it *item) error {
	s.mu.Lock()
	err := s.pending.push(it)
	s.mu.Unlock()
	if err == nil {
		s.sendStatus()
	}
	s.poke()
	return err
}
