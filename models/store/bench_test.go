package store

import (
	"fmt"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"gorm.io/gorm"

	"comfyfleet/models"
)

// graph60k is about the size of a large video workflow, and compresses like one.
func graph60k() []byte {
	var b strings.Builder
	b.WriteString("{")
	for i := range 300 {
		_, _ = fmt.Fprintf(&b, `"%d":{"class_type":"Node%d","inputs":{"seed":%d,"model":["%d",0],"text":"a fox in the snow %x","cfg":7.5,"sampler_name":"euler","scheduler":"normal","denoise":1}},`,
			i, i%37, i*7919, max(0, i-1), i*i*31)
	}
	return []byte(b.String() + `"end":{}}`)
}

// BenchmarkAccept accepts jobs with 60 kB graphs from so many callers at once.
func BenchmarkAccept(b *testing.B) {
	for _, callers := range []int{1, 8, 64} {
		b.Run(fmt.Sprintf("callers=%d", callers), func(b *testing.B) {
			s := openTest(b)
			addTenant(b, s, "t1")
			graph := graph60k()
			var left atomic.Int64
			left.Store(int64(b.N))
			b.ResetTimer()
			together(callers, func() {
				for left.Add(-1) >= 0 {
					_, _, err := s.AcceptJob(b.Context(), models.NewJob{Job: models.Job{TenantID: "t1"},
						Payload: models.JobPayload{Graph: graph}, MaxQueued: 1 << 30, MaxQueuedTenant: 1 << 30})
					if err != nil {
						b.Error(err)
						return
					}
				}
			})
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "jobs/s")
		})
	}
}

// BenchmarkJob takes jobs, one after the other, through the two commits of one that finds a free worker: accepted with its
// attempt, and finished with a small output.
func BenchmarkJob(b *testing.B) {
	s := openTest(b)
	addTenant(b, s, "t1")
	graph := []byte(`{"1":{"class_type":"EmptyImage","inputs":{}},"2":{"class_type":"SaveImage","inputs":{"images":["1",0]}}}`)
	for i := 0; b.Loop(); i++ {
		id := fmt.Sprintf("%036d", i)
		_, _, err := s.AcceptJob(b.Context(), models.NewJob{Job: models.Job{ID: id, TenantID: "t1"}, Payload: models.JobPayload{Graph: graph},
			MaxQueued: 10, MaxQueuedTenant: 10, Attempt: &models.Attempt{ID: "a" + id, Worker: "worker-0", PlacedBecause: "free"}})
		require.NoError(b, err)
		at := time.Now()
		_, err = s.FinishAttempt(b.Context(), models.Finish{AttemptID: "a" + id, Attempt: models.AttemptSucceeded, Job: models.JobSucceeded,
			At: at, StartedAt: &at, ExecMS: 1,
			Outputs: []models.Output{{ID: "o" + id, NodeID: "2", Filename: "a.png", Type: "image", Content: graph}}})
		require.NoError(b, err)
	}
}

// BenchmarkLists reads over a table of finished jobs of twenty tenants, one of which has half, with 5000 queued.
func BenchmarkLists(b *testing.B) {
	for _, rows := range []int{1_000, 1_000_000} {
		s := openAt(b, filepath.Join(b.TempDir(), "comfyfleet.db"))
		fill(b, s, rows)
		middle := int64(rows / 2)
		for _, c := range []struct {
			name string
			run  func() error
		}{
			{"tenant", func() error {
				_, err := s.Jobs(b.Context(), models.JobFilter{TenantID: "t0"}, models.Page{Limit: 50, Before: middle})
				return err
			}},
			{"finished", func() error {
				_, err := s.Jobs(b.Context(), states("t0", models.JobSucceeded, models.JobFailed), models.Page{Limit: 50, Before: middle})
				return err
			}},
			{"counts", func() error { _, err := s.Counts(b.Context(), models.JobFilter{TenantID: "t0"}); return err }},
			{"queue", func() error { _, err := s.Queue(b.Context(), 50); return err }},
			{"position", func() error {
				_, err := s.QueuePosition(b.Context(), models.Job{TenantID: "t0", Seq: int64(rows), State: models.JobQueued, Phase: models.PhaseWaiting})
				return err
			}},
		} {
			b.Run(fmt.Sprintf("%s/rows=%d", c.name, rows), func(b *testing.B) {
				for b.Loop() {
					require.NoError(b, c.run())
				}
			})
		}
	}
}

// fill inserts rows jobs in one statement; the last 5000 of them, or a tenth, are queued.
func fill(b *testing.B, s *Store, rows int) {
	b.Helper()
	for i := range 20 {
		addTenant(b, s, fmt.Sprint("t", i))
	}
	queuedFrom := rows - min(5000, rows/10)
	var columns, values []string
	for _, f := range jobsTable.fields {
		value := "''"
		switch f.DBName {
		case "seq":
			value = "n"
		case "id":
			value = "lower(hex(randomblob(16)))"
		case "tenant_id":
			value = "'t' || CASE WHEN n % 2 = 0 THEN 0 ELSE n % 20 END"
		case "state":
			value = fmt.Sprintf("CASE WHEN n > %d THEN 'queued' WHEN n %% 50 = 1 THEN 'failed' ELSE 'succeeded' END", queuedFrom)
		case "phase":
			value = fmt.Sprintf("CASE WHEN n > %d THEN 'waiting' ELSE '' END", queuedFrom)
		case "created_at":
			value = "'2026-11-01 00:00:00+00:00'"
		case "finished_at":
			value = fmt.Sprintf("CASE WHEN n > %d THEN NULL ELSE '2026-11-01 00:00:00+00:00' END", queuedFrom)
		case "started_at", "deadline_at", "last_event_at":
			value = "NULL"
		default:
			if f.GORMDataType != "string" {
				value = "0"
			}
		}
		columns, values = append(columns, f.DBName), append(values, value)
	}
	require.NoError(b, s.writer.run(b.Context(), func(tx *gorm.DB) error {
		if err := tx.Exec(fmt.Sprintf(`WITH RECURSIVE r(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM r WHERE n < %d)
			INSERT INTO jobs (%s) SELECT %s FROM r`, rows, strings.Join(columns, ", "), strings.Join(values, ", "))).Error; err != nil {
			return err
		}
		return tx.Exec(`UPDATE tenant_load SET queued = (SELECT COUNT(*) FROM jobs
			WHERE jobs.tenant_id = tenant_load.tenant_id AND state = 'queued')`).Error
	}))
	require.NoError(b, s.VerifyCounters(b.Context()))
}

func together(n int, do func()) {
	done := make(chan struct{})
	for range n {
		go func() {
			defer func() { done <- struct{}{} }()
			do()
		}()
	}
	for range n {
		<-done
	}
}
