package sim_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

const flagsMessage = `{"type":"feature_flags","data":{"supports_preview_metadata":true}}`

func kinds(list []got) (out []string) {
	for _, g := range list {
		if len(out) == 0 || out[len(out)-1] != g.kind {
			out = append(out, g.kind)
		}
	}
	return out
}

func TestACleanReconnectHearsTheRestButForgetsItsFlags(t *testing.T) {
	r := start(t)
	first := r.dial("a", flagsMessage)
	id := r.submit(stepped(1, 400, 0.2, true), "a")
	first.step(id, "2", 2)
	require.NoError(t, first.conn.Close())
	r.awaitSockets(0)

	second := r.dial("a")
	second.end(id)
	all := second.messages()
	require.Equal(t, "executing 2 (no prompt)", line(all[1]), "what runs, without the prompt's id")
	require.Contains(t, kinds(all), "binary:1", "previews fall back to the old kind")
	later := kinds(second.of(id))
	require.NotContains(t, later[len(later)/2:], "binary:4", "one that was on its way may still come")
	require.NotContains(t, kinds(all), "execution_start", "nothing is replayed")
}

func TestAnOverlappingReconnectGoesSilent(t *testing.T) {
	r := start(t)
	first := r.dial("a")
	id := r.submit(stepped(2, 2000, 0.1, false), "a")
	first.step(id, "2", 2)
	second := r.dial("a")
	second.step(id, "2", 10)
	require.NoError(t, first.conn.Close())
	r.awaitSockets(0)
	require.Equal(t, "success", r.history(id)["status"].(M)["status_str"])
	// What was on its way may still come; steps from long before the end, and the end itself, do not.
	require.NotContains(t, strings.Join(lines(second.of(id)), "\n"), "progress 2 1999/2000", "the table lost it when the first socket closed")
	require.False(t, second.closed(), "but it stays open")
}

func TestAReconnectAfterTheEndHearsNothing(t *testing.T) {
	r := start(t)
	first := r.dial("a")
	id := r.submit(stepped(3, 2, 0.001, false), "a")
	first.end(id)
	require.NoError(t, first.conn.Close())
	r.awaitSockets(0)
	second := r.dial("a")
	r.history(id)
	require.Equal(t, []string{"status 0 sid"}, lines(second.messages()))
}

func TestFeatureFlagsCountOnlyAsTheFirstMessage(t *testing.T) {
	for name, first := range map[string][]string{"first": {flagsMessage}, "second": {`{"type":"hello"}`, flagsMessage}} {
		r := start(t)
		a := r.dialQuiet("a", first...)
		if name == "first" {
			a.wait("feature flags", func(g got) bool { return g.kind == "feature_flags" })
		}
		id := r.submit(stepped(4, 2, 0.001, true), "a")
		a.end(id)
		require.Equal(t, name == "first", strings.Contains(strings.Join(kinds(a.messages()), " "), "binary:4"), name)
		require.Equal(t, name == "second", strings.Contains(strings.Join(kinds(a.messages()), " "), "binary:1"), name)
	}
}
