package jobs

import (
	"testing"

	"github.com/stretchr/testify/require"

	"comfyfleet/gpu"
	"comfyfleet/models"
)

func TestDecideFollowsTheTableOfCauses(t *testing.T) {
	type want struct {
		collect, nothing bool
		job              models.JobState
		attempt          models.AttemptState
		code             string
		fault, oom       bool
		uncount          bool
	}
	requeued := models.JobQueued
	tests := []struct {
		name    string
		job     models.Job
		attempt int
		out     gpu.Outcome
		want    want
	}{
		{name: "success is collected", out: gpu.Outcome{Started: true}, want: want{collect: true}},
		{name: "a cancelled job has ended already", out: gpu.Outcome{Cause: models.CauseCanceled, Started: true}, want: want{nothing: true}},
		{name: "a refused graph fails", out: gpu.Outcome{Cause: models.CauseRejected}, want: want{job: models.JobFailed, attempt: models.AttemptFailed, code: "graph_rejected"}},
		{name: "a node's exception fails", out: gpu.Outcome{Cause: models.CauseException, Started: true}, want: want{job: models.JobFailed, attempt: models.AttemptFailed, code: "node_exception"}},
		{name: "media that is no medium fails", out: gpu.Outcome{Cause: models.CauseMedia}, want: want{job: models.JobFailed, attempt: models.AttemptFailed, code: "invalid_media"}},
		{name: "first out of memory tries again", out: gpu.Outcome{Cause: models.CauseOOM, Started: true}, want: want{job: requeued, attempt: models.AttemptLost, oom: true}},
		{name: "second out of memory tries again", job: models.Job{OOMs: 1}, out: gpu.Outcome{Cause: models.CauseOOM, Started: true}, want: want{job: requeued, attempt: models.AttemptLost, oom: true}},
		{name: "third out of memory fails", job: models.Job{OOMs: 2}, out: gpu.Outcome{Cause: models.CauseOOM, Started: true}, want: want{job: models.JobFailed, attempt: models.AttemptFailed, code: "out_of_memory"}},
		{name: "a crash while executing counts", out: gpu.Outcome{Cause: models.CauseCrashed, Started: true}, want: want{job: requeued, attempt: models.AttemptLost, fault: true}},
		{name: "a crash while staged does not count", job: models.Job{Faults: 2}, out: gpu.Outcome{Cause: models.CauseCrashed}, want: want{job: requeued, attempt: models.AttemptLost}},
		{name: "the third crash fails", job: models.Job{Faults: 2}, out: gpu.Outcome{Cause: models.CauseCrashed, Started: true}, want: want{job: models.JobFailed, attempt: models.AttemptFailed, code: "worker_crashed"}},
		{name: "the third wedge fails as a crash", job: models.Job{Faults: 2}, out: gpu.Outcome{Cause: models.CauseStalled, Started: true}, want: want{job: models.JobFailed, attempt: models.AttemptFailed, code: "worker_crashed"}},
		{name: "a prompt that no engine takes fails in the end", attempt: 10, out: gpu.Outcome{Cause: models.CauseUnreachable}, want: want{job: models.JobFailed, attempt: models.AttemptFailed, code: "worker_unreachable"}},
		{name: "a poisoned card counts", out: gpu.Outcome{Cause: models.CausePoisoned, Started: true}, want: want{job: requeued, attempt: models.AttemptLost, fault: true}},
		{name: "a vanished prompt never counts", job: models.Job{Faults: 2}, out: gpu.Outcome{Cause: models.CauseVanished, Started: true}, want: want{job: requeued, attempt: models.AttemptLost}},
		{name: "a take-back is no attempt", out: gpu.Outcome{Cause: models.CauseTakenBack}, want: want{job: requeued, attempt: models.AttemptReleased}},
		{name: "our stop uncounts what ran", out: gpu.Outcome{Cause: models.CauseServerStop, Started: true}, want: want{job: requeued, attempt: models.AttemptReleased, uncount: true}},
		{name: "a deadline while running fails", out: gpu.Outcome{Cause: models.CauseDeadline, Started: true}, want: want{job: models.JobFailed, attempt: models.AttemptCanceled, code: "deadline_exceeded"}},
		{name: "a deadline before the start expires", out: gpu.Outcome{Cause: models.CauseDeadline}, want: want{job: models.JobExpired, attempt: models.AttemptCanceled, code: "deadline_exceeded"}},
		{name: "our own failure tries again", attempt: 1, out: gpu.Outcome{Cause: models.CauseInternal}, want: want{job: requeued, attempt: models.AttemptLost}},
		{name: "our own third failure fails", attempt: 3, out: gpu.Outcome{Cause: models.CauseInternal}, want: want{job: models.JobFailed, attempt: models.AttemptFailed, code: "internal"}},
		{name: "unreadable outputs try again", attempt: 1, out: gpu.Outcome{Cause: models.CauseOutputs, Started: true}, want: want{job: requeued, attempt: models.AttemptLost}},
		{name: "unreadable outputs fail in the end", attempt: 3, out: gpu.Outcome{Cause: models.CauseOutputs, Started: true}, want: want{job: models.JobFailed, attempt: models.AttemptFailed, code: "outputs_failed"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			v := decide(tt.job, models.Attempt{ID: "a", Number: tt.attempt}, tt.out)
			require.Equal(t, tt.want.collect, v.collect)
			require.Equal(t, tt.want.nothing, v.nothing)
			switch tt.want.job {
			case "":
				require.Nil(t, v.finish)
				require.Nil(t, v.requeue)
			case requeued:
				require.Nil(t, v.finish)
				require.NotNil(t, v.requeue)
				require.Equal(t, tt.want.attempt, v.requeue.Attempt)
				require.Equal(t, [3]bool{tt.want.fault, tt.want.oom, tt.want.uncount}, [3]bool{v.requeue.Fault, v.requeue.OOM, v.requeue.Uncount})
			default:
				require.Nil(t, v.requeue)
				require.NotNil(t, v.finish)
				require.Equal(t, tt.want.job, v.finish.Job)
				require.Equal(t, tt.want.attempt, v.finish.Attempt)
				require.Equal(t, tt.want.code, v.finish.ErrorCode)
				require.NotEmpty(t, v.finish.AttemptID)
			}
		})
	}
}

func TestEveryCauseOfAnEndIsDecided(t *testing.T) {
	causes := []models.Cause{
		models.CauseRejected, models.CauseException, models.CauseMedia, models.CauseOutputs, models.CauseOOM, models.CauseCrashed,
		models.CauseUnreachable, models.CauseStalled, models.CauseZombie, models.CausePoisoned, models.CauseVanished,
		models.CauseCanceled, models.CauseDeadline, models.CauseTakenBack, models.CauseServerStop, models.CauseInternal,
	}
	for _, c := range causes {
		for _, started := range []bool{false, true} {
			v := decide(models.Job{}, models.Attempt{ID: "a", Number: 1}, gpu.Outcome{Cause: c, Started: started})
			set := 0
			for _, b := range []bool{v.collect, v.finish != nil, v.requeue != nil, v.nothing} {
				if b {
					set++
				}
			}
			require.Equal(t, 1, set, "%s started=%v", c, started)
			require.False(t, v.collect, "%s is no success", c)
		}
	}
}

func TestTheFirstNodeErrorIsTheMessage(t *testing.T) {
	out := gpu.Outcome{Cause: models.CauseRejected, Detail: "some outputs of the graph failed validation",
		NodeErrors: []byte(`{"9":{"errors":[],"class_type":"SaveImage"},"107":{"errors":[{"message":"Custom validation failed for node","details":"image - Invalid image file: x.png"}],"class_type":"LoadImage"}}`)}
	require.Equal(t, "node 107 (LoadImage): Custom validation failed for node: image - Invalid image file: x.png", message(out))
	out.NodeErrors = []byte(`{}`)
	require.Equal(t, out.Detail, message(out))
}
