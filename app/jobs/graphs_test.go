package jobs

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestParsedGraphsAreSharedAndBounded(t *testing.T) {
	p := newParsedGraphs()
	raw := func(n int, filler string) []byte {
		return fmt.Appendf(nil, `{"1":{"class_type":"A","inputs":{"n":%d,"text":"%s"}}}`, n, filler)
	}
	sent := raw(1, "x")
	_, err := p.parse(sent)
	require.NoError(t, err)
	require.Empty(t, p.byKey, "what came once is not kept")
	second, err := p.parse(sent)
	require.NoError(t, err)
	copy(sent, "garbage")
	third, err := p.parse(raw(1, "x"))
	require.NoError(t, err)
	require.Same(t, second, third)
	require.Equal(t, string(raw(1, "x")), string(third.JSON()), "what the client does with its bytes changes nothing")

	twice := func(graph []byte) {
		for range 2 {
			_, err := p.parse(graph)
			require.NoError(t, err)
		}
	}
	for i := range 2 * maxParsed {
		twice(raw(i, "y"))
	}
	require.Len(t, p.byKey, maxParsed)
	require.Equal(t, maxParsed, p.order.Len())

	big := strings.Repeat("z", 3<<20)
	for i := range 20 {
		twice(raw(i, big))
	}
	require.LessOrEqual(t, p.bytes, maxParsedBytes)
	require.NotEmpty(t, p.byKey)

	_, err = p.parse([]byte(`{"nodes":[],"links":[]}`))
	require.Error(t, err)
}
