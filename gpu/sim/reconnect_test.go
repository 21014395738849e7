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
	id := r.submit(endless(1, true), "a")
	first.step(id, "2", 2)
	require.NoError(t, first.conn.Close())
	r.awaitSockets(0)

	second := r.dial("a")
	second.wait("preview of the old kind", func(g got) bool { return g.kind == "binary:1" })
	r.do("POST", "/interrupt", nil)
	second.end(id)
	all := second.messages()
	require.Contains(t, lines(all), "executing 2 (no prompt)", "what runs, without the prompt's id; a step may come before")
	later := kinds(second.of(id))
	require.NotContains(t, later[len(later)/2:], "binary:4", "one that was on its way may still come")
	require.NotContains(t, kinds(all), "execution_start", "nothing is replayed")
}

func TestAnOverlappingReconnectGoesSilent(t *testing.T) {
	r := start(t)
	first := r.dial("a")
	id := r.submit(endless(2, false), "a")
	first.step(id, "2", 2)
	second := r.dial("a")
	second.step(id, "2", 10)
	other := r.dial("b")
	require.NoError(t, first.conn.Close())
	r.awaitSockets(1)
	r.do("POST", "/interrupt", nil)
	r.history(id)
	other.wait("end of the queue", func(g got) bool { return line(g) == "status 0" })
	// What was on its way may still come; the end, which the other socket has heard of, does not.
	require.NotContains(t, strings.Join(lines(second.of(id)), "\n"), "execution_interrupted", "the table lost it when the first socket closed")
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
