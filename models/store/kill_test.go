package store

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"comfyfleet/models"
)

// killEnv names the database that the child process of the test below fills until it is killed.
const killEnv = "COMFYFLEET_TEST_KILL_DB"

func TestEveryAnsweredJobIsThereAfterKill9(t *testing.T) {
	if path := os.Getenv(killEnv); path != "" {
		acceptForEver(t, path)
		return
	}
	path := filepath.Join(t.TempDir(), "comfyfleet.db")
	addTenant(t, openAt(t, path), "t1") // the child is a second process on the file
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	child := exec.CommandContext(ctx, os.Args[0], "-test.run=^"+t.Name()+"$")
	child.Env = append(os.Environ(), killEnv+"="+path)
	out, err := child.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, child.Start())
	var answered []string
	lines := bufio.NewScanner(out)
	for lines.Scan() { // also what it said between the signal and its end
		answered = append(answered, lines.Text())
		if len(answered) == 200 {
			require.NoError(t, child.Process.Kill())
		}
	}
	require.ErrorContains(t, child.Wait(), "killed")
	require.GreaterOrEqual(t, len(answered), 200)

	s := openAt(t, path)
	for _, id := range answered[:len(answered)-1] { // the last line may be cut
		job, err := s.Job(t.Context(), "t1", id)
		require.NoError(t, err)
		payload, err := s.Payload(t.Context(), id)
		require.NoError(t, err)
		require.Equal(t, graphOf(id), string(payload.Graph))
		events, err := s.Events(t.Context(), id, 0, 10)
		require.NoError(t, err)
		require.Len(t, events, int(job.Revision))
	}
	require.NoError(t, s.VerifyCounters(t.Context()))
	var verdict string
	require.NoError(t, s.reads.QueryRow("PRAGMA integrity_check").Scan(&verdict))
	require.Equal(t, "ok", verdict)
}

// acceptForEver accepts jobs from eight goroutines and says the id of each that was answered.
func acceptForEver(t *testing.T, path string) {
	s := openAt(t, path)
	var mu sync.Mutex
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for t.Context().Err() == nil {
				id := s.newID()
				job, _, err := s.AcceptJob(t.Context(), models.NewJob{Job: models.Job{ID: id, TenantID: "t1"},
					Payload: models.JobPayload{Graph: []byte(graphOf(id))}})
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				_, _ = fmt.Println(job.ID)
				mu.Unlock()
			}
		})
	}
	wg.Wait()
}

func graphOf(id string) string {
	return `{"1":{"class_type":"SaveImage","inputs":{"filename_prefix":"` + id + `"}}}`
}
