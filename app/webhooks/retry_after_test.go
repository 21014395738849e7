package webhooks_test

import (
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"comfyfleet/models"
)

func TestAnEndpointMayAskForALaterTryButNotForASoonerOne(t *testing.T) {
	for asked, c := range map[string]struct{ least, most time.Duration }{
		"1":         {5 * time.Second, time.Minute},
		"3600":      {time.Hour, time.Hour + time.Minute},
		"999999999": {10 * time.Hour, 10*time.Hour + time.Minute},
	} {
		t.Run(asked, func(t *testing.T) {
			b := newBench(t)
			defer b.Close()
			d := b.owe(t, serve(t, func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Retry-After", asked)
				w.WriteHeader(http.StatusServiceUnavailable)
			}))
			defer start(t, still(b, loopback(t)))()
			after, a := attempted(t, b, d.ID, 1)
			require.Equal(t, models.DeliveryPending, after.State)
			pause := after.NextAt.Sub(a.At) // from the start of the attempt
			require.GreaterOrEqual(t, pause, c.least)
			require.Less(t, pause, c.most)
		})
	}
}
