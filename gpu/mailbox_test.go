package gpu

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestMailboxKeepsTheNewestHintAndEveryStep(t *testing.T) {
	m := newMailbox()
	m.put(Event{Kind: EventNode, Node: "1"})
	for i := range 100 {
		m.put(Event{Kind: EventSteps, Node: "1", Value: float64(i)})
		m.put(Event{Kind: EventPreview, Text: fmt.Sprint(i)})
	}
	m.put(Event{Kind: EventSteps, Node: "2", Value: 1})
	m.put(Event{Kind: EventEnd})
	require.Len(t, m.wake, 1)
	events, preview, look := m.take()
	require.Len(t, events, 4)
	require.EqualValues(t, 99, events[1].Value)
	require.Equal(t, "99", preview.Text)
	require.False(t, look)
	events, preview, _ = m.take()
	require.Empty(t, events)
	require.Nil(t, preview)
}

func TestAFullMailboxAsksForALookInsteadOfGrowing(t *testing.T) {
	m := newMailbox()
	for i := range maxMail + 10 {
		m.put(Event{Kind: EventNode, Node: fmt.Sprint(i)})
	}
	events, _, look := m.take()
	require.Len(t, events, maxMail)
	require.True(t, look)
}
