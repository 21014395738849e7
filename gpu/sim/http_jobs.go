package sim

import (
	"fmt"
	"net/http"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/google/uuid"
)

func jobStatuses() []string {
	return []string{"pending", "in_progress", "completed", "failed", "cancelled"}
}

// job is one prompt of the jobs API, in any state. end is nil until it is in the history.
type job struct {
	item   *item
	status string
	end    *entry
}

// jobs are all prompts, the caller's to sort.
func (s *Server) jobs() []job {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []job
	if s.running != nil {
		all = append(all, job{item: s.running, status: "in_progress"})
	}
	for _, it := range s.pending {
		all = append(all, job{item: it, status: "pending"})
	}
	for el := s.history.order.Front(); el != nil; el = el.Next() {
		e := el.Value.(*entry)
		all = append(all, job{e.item, e.jobStatus(), e})
	}
	return all
}

func (e *entry) jobStatus() string {
	switch {
	case e.success:
		return "completed"
	case e.cancelled:
		return "cancelled"
	}
	return "failed"
}

// getJobs is GET /api/jobs.
func (s *Server) getJobs(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	var want []string
	if text := q.Get("status"); text != "" {
		want = strings.Split(text, ",")
		if bad := slices.DeleteFunc(slices.Clone(want), func(v string) bool { return slices.Contains(jobStatuses(), v) }); len(bad) > 0 {
			jobError(w, fmt.Sprintf("Invalid status value(s): %s. Valid values: %s", strings.Join(bad, ", "), strings.Join(jobStatuses(), ", ")))
			return
		}
	}
	limit, offset, problem := window(q.Get("limit"), q.Get("offset"))
	if problem != "" {
		jobError(w, problem)
		return
	}
	all := slices.DeleteFunc(s.jobs(), func(j job) bool {
		return want != nil && !slices.Contains(want, j.status) || q.Get("workflow_id") != "" && j.item.flow != q.Get("workflow_id")
	})
	sortJobs(all, q.Get("sort_by"), q.Get("sort_order"))
	total := len(all)
	all = all[min(offset, total):]
	shownLimit := any(nil)
	if limit > 0 {
		all, shownLimit = all[:min(limit, len(all))], limit
	}
	list := []ordered{}
	for _, j := range all {
		list = append(list, j.summary())
	}
	reply(w, http.StatusOK, ordered{{"jobs", list}, {"pagination", ordered{{"offset", offset}, {"limit", shownLimit}, {"total", total},
		{"has_more", offset+len(list) < total}}}})
}

func jobError(w http.ResponseWriter, text string) {
	reply(w, http.StatusBadRequest, map[string]string{"error": text})
}

// window reads limit and offset; problem is the answer to bad ones.
func window(limitText, offsetText string) (limit, offset int, problem string) {
	var err error
	if limitText != "" {
		if limit, err = strconv.Atoi(limitText); err != nil || limit <= 0 {
			return 0, 0, "limit must be a positive integer"
		}
	}
	if offsetText != "" {
		if offset, err = strconv.Atoi(offsetText); err != nil {
			return 0, 0, "offset must be an integer"
		}
	}
	return limit, max(0, offset), ""
}

// sortJobs orders by creation, newest first, unless asked otherwise.
func sortJobs(all []job, by, order string) {
	key := func(j job) int64 {
		if by == "execution_duration" && j.end != nil {
			return j.end.ended - j.end.started
		}
		if by == "execution_duration" {
			return 0
		}
		return j.item.created
	}
	slices.SortStableFunc(all, func(a, b job) int {
		diff := key(a) - key(b)
		if diff == 0 {
			diff = int64(a.item.number - b.item.number)
		}
		if order != "asc" {
			diff = -diff
		}
		return int(max(-1, min(1, diff)))
	})
}

// summary is a job in a list.
func (j job) summary() ordered {
	out := ordered{{"id", j.item.id}, {"status", j.status}, {"priority", j.item.shown}, {"create_time", j.item.created}}
	if j.end == nil {
		out = append(out, field{"outputs_count", 0}, field{"previewable_outputs_count", 0})
		return j.withFlow(out)
	}
	out = append(out, field{"execution_start_time", j.end.started}, field{"execution_end_time", j.end.ended})
	if j.end.failure != nil {
		out = append(out, field{"execution_error", j.end.failure})
	}
	files, shown, preview := j.end.count()
	out = append(out, field{"outputs_count", files}, field{"previewable_outputs_count", shown})
	if preview != nil {
		out = append(out, field{"preview_output", preview})
	}
	return j.withFlow(out)
}

func (j job) withFlow(out ordered) ordered {
	if j.item.flow != "" {
		out = append(out, field{"workflow_id", j.item.flow})
	}
	return out
}

// count counts the files of an entry and finds the one to preview: a file if there is one, else a text.
func (e *entry) count() (files, previewable int, preview ordered) {
	var text ordered
	for _, node := range e.outputs {
		for _, kind := range node.value.(ordered) {
			for _, item := range kind.value.([]any) {
				switch item := item.(type) {
				case ordered:
					files++
					if !canPreview(kind.key, item) {
						continue
					}
					previewable++
					if preview == nil {
						preview = append(append(ordered{}, item...), field{"nodeId", node.key}, field{"mediaType", kind.key})
					}
				case string:
					if text == nil && kind.key == "text" {
						text = ordered{{"content", item}, {"nodeId", node.key}, {"mediaType", "text"}}
					}
				}
			}
		}
	}
	if preview == nil {
		preview = text
	}
	return files, previewable, preview
}

// canPreview says whether ComfyUI counts a file as previewable: by the key of the ui, by its format, or as text.
func canPreview(key string, item ordered) bool {
	if slices.Contains([]string{"images", "video", "audio", "3d"}, key) {
		return true
	}
	for _, f := range item {
		text, _ := f.value.(string)
		if f.key == "format" && (strings.HasPrefix(text, "video/") || strings.HasPrefix(text, "image/") || strings.HasPrefix(text, "audio/")) {
			return true
		}
		if f.key == "filename" && slices.Contains([]string{".txt", ".json", ".md", ".csv"}, path.Ext(text)) {
			return true
		}
	}
	return false
}

// getJob is GET /api/jobs/{id}.
func (s *Server) getJob(w http.ResponseWriter, r *http.Request) {
	for _, j := range s.jobs() {
		if j.item.id != r.PathValue("id") {
			continue
		}
		out := j.summary()
		if j.end != nil {
			out = append(out, field{"outputs", j.end.outputs}, field{"execution_status", j.end.status()},
				field{"workflow", ordered{{"prompt", j.item.graph.raw}, {"extra_data", j.item.extra}}})
		}
		reply(w, http.StatusOK, out)
		return
	}
	reply(w, http.StatusNotFound, map[string]string{"error": "Job not found"})
}

// cancelJob removes a pending prompt or interrupts a running one.
func (s *Server) cancelJob(id string) bool {
	return s.unqueue(id) || s.interruptPrompt(id)
}

// postJobCancel is POST /api/jobs/{id}/cancel.
func (s *Server) postJobCancel(w http.ResponseWriter, r *http.Request) {
	reply(w, http.StatusOK, map[string]bool{"cancelled": s.cancelJob(r.PathValue("id"))})
}

// postJobsCancel is POST /api/jobs/cancel.
func (s *Server) postJobsCancel(w http.ResponseWriter, r *http.Request) {
	var in struct {
		IDs []string `json:"job_ids"`
	}
	if !s.decodeBody(w, r, &in, true) {
		return
	}
	bad := slices.DeleteFunc(slices.Clone(in.IDs), func(id string) bool { return uuid.Validate(id) == nil })
	if len(bad) > 0 {
		reply(w, http.StatusBadRequest, ordered{{"error", "job_ids contains invalid id(s)"}, {"invalid_ids", bad}})
		return
	}
	any := false
	for _, id := range in.IDs {
		any = s.cancelJob(id) || any
	}
	reply(w, http.StatusOK, map[string]bool{"cancelled": any})
}
