package web

import (
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"comfyfleet/models"
	"comfyfleet/views"
)

// term is one key:value of a query.
type term struct{ key, value string }

// query is a list's filter as it stands in the URL: state:failed tenant:acme workflow:flux-dev error:oom gpu:2 age:<24h.
type query struct{ terms []term }

var filterKeys = []string{"state", "tenant", "workflow", "error", "gpu", "age", "id"}

var jobStates = []models.JobState{models.JobQueued, models.JobRunning, models.JobSucceeded, models.JobFailed, models.JobCanceled, models.JobExpired}

var (
	idForm  = regexp.MustCompile(`^[0-9a-f-]{1,36}$`)
	ageForm = regexp.MustCompile(`^([<>])(\d{1,4})(s|m|h|d)$`)
)

// errorWords are short names of error codes.
var errorWords = map[string]models.Cause{
	"oom": models.CauseOOM, "crash": models.CauseCrashed, "crashed": models.CauseCrashed, "stalled": models.CauseStalled,
	"deadline": models.CauseDeadline, "rejected": models.CauseRejected, "exception": models.CauseException,
}

// parseQuery splits text at spaces. A later term replaces an earlier one of its key; a word without a key is the
// beginning of an id.
func parseQuery(text string) query {
	var q query
	for _, word := range strings.Fields(text) {
		key, value, ok := strings.Cut(word, ":")
		if !ok {
			key, value = "id", word
		}
		q = q.without(key)
		if value != "" {
			q.terms = append(q.terms, term{strings.ToLower(key), value})
		}
	}
	return q
}

func (q query) String() string {
	words := make([]string, len(q.terms))
	for i, t := range q.terms {
		words[i] = t.key + ":" + t.value
	}
	return strings.Join(words, " ")
}

func (q query) without(key string) query {
	return query{slices.DeleteFunc(slices.Clone(q.terms), func(t term) bool { return t.key == key })}
}

func (q query) with(key, value string) query {
	q = q.without(key)
	q.terms = append(q.terms, term{key, value})
	return q
}

func (q query) get(key string) string {
	for _, t := range q.terms {
		if t.key == key {
			return t.value
		}
	}
	return ""
}

// url is the address of the list under q.
func (q query) url() string {
	if len(q.terms) == 0 {
		return "/jobs"
	}
	return "/jobs?q=" + url.QueryEscape(q.String())
}

// filter turns the query into what the store understands. What cannot be understood is an error for the reader, never
// silently left out: a list that ignores half its filter lies.
func (q query) filter(tenants []models.Tenant, workers []models.Worker, now time.Time) (models.JobFilter, error) {
	var f models.JobFilter
	for _, t := range q.terms {
		if err := narrow(&f, t, tenants, workers, now); err != nil {
			return f, err
		}
	}
	return f, nil
}

// narrow adds one term to f.
func narrow(f *models.JobFilter, t term, tenants []models.Tenant, workers []models.Worker, now time.Time) error {
	bad := func(format string, args ...any) error {
		return models.FieldErrorf(models.CodeInvalid, "bad_filter", t.key+":"+t.value, format, args...)
	}
	switch t.key {
	case "state":
		for _, s := range strings.Split(t.value, ",") {
			if !slices.Contains(jobStates, models.JobState(s)) {
				return bad("the states are queued, running, succeeded, failed, canceled and expired")
			}
			f.States = append(f.States, models.JobState(s))
		}
	case "tenant":
		i := slices.IndexFunc(tenants, func(x models.Tenant) bool { return x.Name == t.value || x.ID == t.value })
		if i < 0 {
			return bad("there is no such tenant")
		}
		f.TenantID = tenants[i].ID
	case "workflow":
		f.WorkflowSlug = t.value
	case "error":
		f.ErrorCode = t.value
		if code, ok := errorWords[t.value]; ok {
			f.ErrorCode = string(code)
		}
	case "gpu":
		f.Worker = t.value
		for _, w := range workers {
			if w.Name == "gpu"+t.value || w.Card != nil && strconv.Itoa(w.Card.Index) == t.value {
				f.Worker = w.Name
			}
		}
	case "id":
		f.IDPrefix = strings.ToLower(t.value)
		if !idForm.MatchString(f.IDPrefix) {
			return bad("an id has digits, letters a to f and hyphens; other words need a key, as in state:failed")
		}
	case "age":
		return ageFilter(f, t.value, now, bad)
	default:
		return bad("the keys are %s", strings.Join(filterKeys, ", "))
	}
	return nil
}

// ageFilter reads <24h (younger) and >1h (older).
func ageFilter(f *models.JobFilter, value string, now time.Time, bad func(string, ...any) error) error {
	m := ageForm.FindStringSubmatch(value)
	if m == nil {
		return bad("write an age as <24h or >30m; s, m, h and d are known")
	}
	n, err := strconv.Atoi(m[2])
	if err != nil {
		return bad("is not a number")
	}
	unit := map[string]time.Duration{"s": time.Second, "m": time.Minute, "h": time.Hour, "d": 24 * time.Hour}[m[3]]
	at := now.Add(-time.Duration(n) * unit)
	if m[1] == "<" {
		f.CreatedAfter = &at
	} else {
		f.CreatedBefore = &at
	}
	return nil
}

// present is the filter bar. A single state is shown by its tab, not as a chip.
func (q query) present(tenants []models.Tenant) views.Filter {
	v := views.Filter{Query: q.String(), Placeholder: "state:failed tenant:acme workflow:flux-dev error:oom gpu:2"}
	for _, t := range q.terms {
		v.Chips = append(v.Chips, views.Chip{Key: t.key, Value: t.value, Remove: q.without(t.key).url()})
	}
	if len(q.terms) > 0 {
		v.Placeholder = "add a filter"
	}
	for _, s := range jobStates {
		v.Suggestions = append(v.Suggestions, "state:"+string(s))
	}
	for _, t := range tenants[:min(len(tenants), 50)] {
		v.Suggestions = append(v.Suggestions, "tenant:"+t.Name)
	}
	v.Suggestions = append(v.Suggestions, "error:oom", "error:crash", "error:stalled", "age:<1h", "age:<24h", "age:>1h")
	return v
}
