package gpu

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"comfyfleet/models"
)

func TestStripJoinsEqualSpansAndForgetsAfterAnHour(t *testing.T) {
	var s strip
	s.mark(models.SpanDown, at(0))
	s.mark(models.SpanIdle, at(10))
	s.mark(models.SpanSampling, at(20))
	s.mark(models.SpanSampling, at(25))
	s.mark(models.SpanLoading, at(30))
	s.mark(models.SpanSampling, at(30)) // loading lasted no time
	s.mark(models.SpanIdle, at(40))
	require.Equal(t, []models.Span{
		{Kind: models.SpanIdle, From: at(15), To: at(20)},
		{Kind: models.SpanSampling, From: at(20), To: at(40)},
		{Kind: models.SpanIdle, From: at(40)},
	}, s.since(at(15)))
	later := at(40).Add(2 * time.Hour)
	s.mark(models.SpanDown, later)
	require.Equal(t, models.SpanIdle, s.since(time.Time{})[0].Kind)
	require.Len(t, s.since(time.Time{}), 2)
	for i := range 2 * maxSpans {
		kind := models.SpanIdle
		if i%2 == 0 {
			kind = models.SpanSampling
		}
		s.mark(kind, later.Add(time.Duration(i+1)*time.Millisecond))
	}
	require.Len(t, s.since(time.Time{}), maxSpans)
}
