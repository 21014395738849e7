package jobs

import (
	"encoding/json"
	"fmt"
	"strings"

	"comfyfleet/gpu"
	"comfyfleet/models"
)

const (
	// maxInternal is how many claims may end by our own failure before the job is failed.
	maxInternal = 3
	// maxUnsent is how many claims may end with an engine that took the prompt and never ran it. A graph that makes every
	// engine answer 500 would go round for ever.
	maxUnsent = 10
)

// verdict is what follows from the end of an attempt: exactly one of its fields is set.
type verdict struct {
	collect bool            // history says success: store the outputs, then finish
	finish  *models.Finish  // the job ends
	requeue *models.Requeue // the job waits again
	nothing bool            // the job has ended already
}

// decide is the table of DESIGN §3: what ends an attempt, and what follows. It is pure.
func decide(job models.Job, a models.Attempt, out gpu.Outcome) verdict {
	switch c := out.Cause; {
	case c == models.CauseNone:
		return verdict{collect: true}
	case c == models.CauseCanceled:
		return verdict{nothing: true} // Cancel committed it before the engine was stopped
	case c == models.CauseDeadline:
		return deadline(a, out)
	case c == models.CauseOOM:
		if job.OOMs+1 >= models.MaxOOMs {
			return fail(a, out, c, fmt.Sprintf("out of memory in %d attempts, the last on a fresh worker: %s", job.OOMs+1, out.Detail))
		}
		return again(a, out, models.Requeue{Attempt: models.AttemptLost, OOM: true})
	case c.Fault():
		counts := out.Started
		if counts && job.Faults+1 >= models.MaxFaults {
			return fail(a, out, models.CauseCrashed, fmt.Sprintf("%d workers ended while running this job, the last: %s", job.Faults+1, out.Detail))
		}
		if !counts && a.Number >= maxUnsent {
			return fail(a, out, c, fmt.Sprintf("no worker could be given this job in %d tries, the last: %s", a.Number, out.Detail))
		}
		return again(a, out, models.Requeue{Attempt: models.AttemptLost, Fault: counts})
	case c == models.CauseVanished:
		return again(a, out, models.Requeue{Attempt: models.AttemptLost})
	case c == models.CauseTakenBack || c == models.CauseServerStop:
		return again(a, out, models.Requeue{Attempt: models.AttemptReleased, Uncount: out.Started})
	case c == models.CauseInternal || c == models.CauseOutputs:
		if a.Number < maxInternal {
			return again(a, out, models.Requeue{Attempt: models.AttemptLost})
		}
		if c == models.CauseOutputs {
			return fail(a, out, c, "the outputs could not be read from the worker or stored")
		}
		return fail(a, out, c, "the service could not run this job; its operator finds the reason in the log")
	default: // graph_rejected, node_exception, invalid_media
		return fail(a, out, c, message(out))
	}
}

func deadline(a models.Attempt, out gpu.Outcome) verdict {
	v := fail(a, out, models.CauseDeadline, "the job did not finish within its timeout_seconds")
	v.finish.Attempt = models.AttemptCanceled
	if !out.Started {
		v.finish.Job = models.JobExpired
		v.finish.Error = "the job did not start within its timeout_seconds"
	}
	return v
}

func fail(a models.Attempt, out gpu.Outcome, code models.Cause, text string) verdict {
	f := ending(a, out)
	f.Attempt, f.Job, f.Cause = models.AttemptFailed, models.JobFailed, out.Cause
	f.ErrorCode, f.Error = string(code), text
	f.NodeErrors = string(out.NodeErrors)
	return verdict{finish: &f}
}

// ending is what every end of an attempt records.
func ending(a models.Attempt, out gpu.Outcome) models.Finish {
	f := models.Finish{
		AttemptID: a.ID, Detail: out.Detail, LogTail: strings.Join(out.LogTail, "\n"),
		PID: out.PID, LoadMS: out.LoadMS, ExecMS: out.ExecMS,
	}
	if len(out.NodeTimes) > 0 {
		if b, err := json.Marshal(out.NodeTimes); err == nil {
			f.NodeTimes = string(b)
		}
	}
	return f
}

func again(a models.Attempt, out gpu.Outcome, r models.Requeue) verdict {
	r.AttemptID, r.Cause, r.Detail = a.ID, out.Cause, out.Detail
	r.LogTail, r.PID = strings.Join(out.LogTail, "\n"), out.PID
	r.LoadMS, r.ExecMS = out.LoadMS, out.ExecMS
	return verdict{requeue: &r}
}
