package webhooks_test

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"comfyfleet/app/outbound"
	"comfyfleet/app/webhooks"
	"comfyfleet/models"
)

func TestDeadEndpointIsTriedForADayThenGivenUpAndCanBeSentAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		defer b.Close()
		world := &endpoints{answer: status(500)}
		d := b.owe(t, "https://dead.example/hook")
		o := newOutbox(b, world)
		stop := start(t, o)
		defer stop()
		time.Sleep(48 * time.Hour)

		posts := world.seen()
		require.Len(t, posts, webhooks.MaxAttempts)
		steps := []time.Duration{5 * time.Second, 25 * time.Second, 5 * time.Minute, 30 * time.Minute, 2 * time.Hour, 5 * time.Hour, 10 * time.Hour, 10 * time.Hour}
		assert.Less(t, posts[0].at.Sub(d.CreatedAt), time.Second, "the first at once")
		for i, step := range steps {
			gap := posts[i+1].at.Sub(posts[i].at)
			assert.GreaterOrEqual(t, gap, step, "attempt %d", i+2)
			assert.LessOrEqual(t, gap, step+step/10+time.Second, "attempt %d", i+2)
			assert.Equal(t, d.ID, posts[i+1].id, "every attempt has the message's id")
		}
		got := b.delivery(t, d.ID)
		assert.Equal(t, models.DeliveryFailed, got.State)
		assert.Equal(t, webhooks.MaxAttempts, got.Attempts)
		assert.Nil(t, got.NextAt)
		for _, a := range b.attempts(t, d.ID) {
			assert.Equal(t, 500, a.Status)
			assert.Equal(t, "answered 500 Internal Server Error", a.Error)
		}

		require.NoError(t, o.Redeliver(t.Context(), b.tenant.ID, d.ID))
		time.Sleep(48 * time.Hour)
		require.Len(t, world.seen(), webhooks.MaxAttempts+1, "one more, not another day of them")
		assert.Equal(t, models.DeliveryFailed, b.delivery(t, d.ID).State)

		world.become(status(204))
		require.NoError(t, o.Redeliver(t.Context(), "", d.ID))
		time.Sleep(time.Second)
		assert.Equal(t, models.DeliveryDelivered, b.delivery(t, d.ID).State)
	})
}

func TestRedeliverOfAnotherTenantsMessageIsNotFound(t *testing.T) {
	b := newBench(t)
	defer b.Close()
	d := b.owe(t, "https://a.example/hook")
	o := newOutbox(b, &endpoints{answer: status(200)})
	assert.Equal(t, models.CodeNotFound, models.ErrorCode(o.Redeliver(t.Context(), "somebody else", d.ID)))
	assert.Equal(t, models.CodeNotFound, models.ErrorCode(o.Redeliver(t.Context(), "", "msg_unknown")))
}

func TestSilentEndpointDoesNotHoldOthersHoweverLongItsBacklog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		defer b.Close()
		var atOnce peak
		world := &endpoints{answer: func(ctx context.Context, u *url.URL) (outbound.Answer, error) {
			if u.Host != "silent.example" {
				return outbound.Answer{Status: 200}, nil
			}
			defer atOnce.begin()()
			return silent(ctx, u)
		}}
		for i := range 300 {
			b.owe(t, fmt.Sprintf("https://silent.example/hook?job=%d", i))
			time.Sleep(time.Millisecond) // a later due time each
		}
		late := b.owe(t, "https://quick.example/hook")
		stop := start(t, newOutbox(b, world))
		defer stop()
		time.Sleep(3 * time.Second)
		assert.Equal(t, models.DeliveryDelivered, b.delivery(t, late.ID).State)
		time.Sleep(time.Minute)
		assert.LessOrEqual(t, atOnce.height(), 2, "one endpoint gets two at a time")

		another := b.owe(t, "https://quick.example/hook")
		time.Sleep(3 * time.Second)
		assert.Equal(t, models.DeliveryDelivered, b.delivery(t, another.ID).State, "also without Wake, after a while")
	})
}

func TestManyEndpointsAreServedSideBySide(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		defer b.Close()
		var atOnce peak
		world := &endpoints{answer: func(context.Context, *url.URL) (outbound.Answer, error) {
			defer atOnce.begin()()
			time.Sleep(time.Second)
			return outbound.Answer{Status: 200}, nil
		}}
		for i := range 100 {
			b.owe(t, fmt.Sprintf("https://host%d.example/hook", i))
		}
		stop := start(t, newOutbox(b, world))
		defer stop()
		time.Sleep(10 * time.Second)
		assert.Len(t, world.seen(), 100)
		assert.Equal(t, 32, atOnce.height())
	})
}

func TestTimeoutsAreRecordedAndTriedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		defer b.Close()
		world := &endpoints{answer: silent}
		d := b.owe(t, "https://silent.example/hook")
		stop := start(t, newOutbox(b, world))
		defer stop()
		time.Sleep(16 * time.Second)
		got := b.delivery(t, d.ID)
		assert.Equal(t, models.DeliveryPending, got.State)
		assert.Equal(t, 1, got.Attempts)
		list := b.attempts(t, d.ID)
		require.Len(t, list, 1)
		assert.Zero(t, list[0].Status)
		assert.Contains(t, list[0].Error, "no answer")
		world.become(status(200))
		time.Sleep(10 * time.Second)
		assert.Equal(t, models.DeliveryDelivered, b.delivery(t, d.ID).State)
	})
}

// A server that dies between sending and recording must send again, under the same id.
func TestCrashBetweenSendingAndRecordingSendsAgainUnderTheSameID(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		world := &endpoints{answer: silent}
		d := b.owe(t, "https://a.example/hook")
		stop := start(t, newOutbox(b, world))
		synctest.Wait()
		require.Len(t, world.seen(), 1, "it is on its way")
		begin := time.Now()
		stop()
		assert.LessOrEqual(t, time.Since(begin), 5*time.Second, "a stop does not wait for a silent endpoint")
		assert.Empty(t, b.attempts(t, d.ID), "what became of it is not known")
		require.NoError(t, b.Close())

		b.open(t)
		defer b.Close()
		world.become(status(200))
		stop = start(t, newOutbox(b, world))
		time.Sleep(time.Second)
		stop()
		posts := world.seen()
		require.Len(t, posts, 2)
		assert.Equal(t, d.ID, posts[1].id)
		assert.Equal(t, models.DeliveryDelivered, b.delivery(t, d.ID).State)
	})
}

func TestStopLetsWhatIsOnItsWayArrive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		defer b.Close()
		world := &endpoints{answer: func(ctx context.Context, _ *url.URL) (outbound.Answer, error) {
			time.Sleep(2 * time.Second)
			return outbound.Answer{Status: 200}, ctx.Err()
		}}
		d := b.owe(t, "https://a.example/hook")
		stop := start(t, newOutbox(b, world))
		synctest.Wait()
		stop()
		assert.Equal(t, models.DeliveryDelivered, b.delivery(t, d.ID).State)
	})
}

// failingStore fails some calls of a real store.
type failingStore struct {
	webhooks.Store
	due, record atomic.Int32 // how many more calls fail
	late        atomic.Int32 // how many more attempts are written although the answer is an error
}

func (s *failingStore) DueDeliveries(ctx context.Context, at time.Time, limit int) ([]models.Delivery, error) {
	if s.due.Add(-1) >= 0 {
		return nil, errors.New("disk busy")
	}
	return s.Store.DueDeliveries(ctx, at, limit)
}

func (s *failingStore) RecordDelivery(ctx context.Context, a models.DeliveryAttempt, state models.DeliveryState, next *time.Time) error {
	if s.record.Add(-1) >= 0 {
		return errors.New("disk busy")
	}
	err := s.Store.RecordDelivery(ctx, a, state, next)
	if s.late.Add(-1) >= 0 {
		return context.DeadlineExceeded
	}
	return err
}

func TestTroubleWithTheStoreNeitherEndsTheOutboxNorRepeatsMessages(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		defer b.Close()
		shaky := &failingStore{Store: b}
		shaky.due.Store(3)
		shaky.record.Store(3)
		shaky.late.Store(1)
		world := &endpoints{answer: status(200)}
		d := b.owe(t, "https://a.example/hook")
		stop := start(t, newOutbox(shaky, world))
		defer stop()
		time.Sleep(time.Minute)
		assert.Equal(t, models.DeliveryDelivered, b.delivery(t, d.ID).State)
		assert.Len(t, world.seen(), 1)
		assert.Len(t, b.attempts(t, d.ID), 1, "one try is one attempt, however often it had to be written")
	})
}
