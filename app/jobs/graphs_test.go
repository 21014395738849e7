package jobs

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestParsedGraphsAreSharedAndBounded(t *testing.T) {
	var p parsedGraphs
	raw := func(n int, filler string) []byte {
		return fmt.Appendf(nil, `{"1":{"class_type":"A","inputs":{"n":%d,"text":"%s"}}}`, n, filler)
	}
	sent := raw(1, "x")
	first, err := p.parse(sent)
	require.NoError(t, err)
	copy(sent, "garbage")
	again, err := p.parse(raw(1, "x"))
	require.NoError(t, err)
	require.Same(t, first, again)
	require.Equal(t, string(raw(1, "x")), string(again.JSON()), "what the client does with its bytes changes nothing")

	for i := range 2 * maxParsed {
		_, err := p.parse(raw(i, "y"))
		require.NoError(t, err)
	}
	require.Len(t, p.byKey, maxParsed)
	require.Equal(t, maxParsed, p.order.Len())

	big := strings.Repeat("z", 3<<20)
	for i := range 20 {
		_, err := p.parse(raw(i, big))
		require.NoError(t, err)
	}
	require.LessOrEqual(t, p.bytes, maxParsedBytes)
	require.NotEmpty(t, p.byKey)

	_, err = p.parse([]byte(`{"nodes":[],"links":[]}`))
	require.Error(t, err)
}
