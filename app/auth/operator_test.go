package auth_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"comfyfleet/app/auth"
	"comfyfleet/models"
)

func TestPasswordsMatchOnlyThemselves(t *testing.T) {
	hash, err := auth.HashPassword("correct horse battery")
	require.NoError(t, err)
	assert.True(t, strings.HasPrefix(hash, "$argon2id$v=19$m=19456,t=2,p=1$"), hash)
	assert.True(t, auth.CheckPassword(hash, "correct horse battery"))
	assert.False(t, auth.CheckPassword(hash, "correct horse batterz"))
	assert.False(t, auth.CheckPassword(hash, ""))
	again, err := auth.HashPassword("correct horse battery")
	require.NoError(t, err)
	assert.NotEqual(t, hash, again, "each hash has its own salt")
}

func TestUnknownOperatorCostsARealCheckAndNeverMatches(t *testing.T) {
	hash, err := auth.HashPassword("correct horse battery")
	require.NoError(t, err)
	check := func(hash string) time.Duration {
		begin := time.Now()
		require.False(t, auth.CheckPassword(hash, "a guess"))
		return time.Since(begin)
	}
	// In turns: a machine that is slow for a while is so for both.
	known, unknown := check(hash), time.Hour
	for range 3 {
		unknown = min(unknown, check(""))
		known = min(known, check(hash))
	}
	assert.Greater(t, unknown, known/4, "an unknown e-mail must not be told from a known one by time")
}

func TestPasswordsMustBeLongEnoughButNotEndless(t *testing.T) {
	for _, p := range []string{"", "1234567", "żółćęąś", strings.Repeat("x", 1025)} {
		_, err := auth.HashPassword(p)
		assert.Equal(t, models.CodeInvalid, models.ErrorCode(err), "%d bytes", len(p))
	}
	longest := strings.Repeat("x", 1024)
	hash, err := auth.HashPassword(longest)
	require.NoError(t, err)
	assert.True(t, auth.CheckPassword(hash, longest))
	assert.False(t, auth.CheckPassword(hash, longest+"x"))
}

func TestSessionKeepsOnlyTheHashOfItsCookie(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	cookie, s := auth.NewSession(models.Operator{ID: "op"}, "192.0.2.1", strings.Repeat("ü", 150), now)
	hash, ok := auth.HashCookie(cookie)
	require.True(t, ok)
	assert.Equal(t, hash, s.Hash)
	assert.NotContains(t, fmt.Sprintf("%+v", s), cookie)
	assert.Equal(t, "op", s.OperatorID)
	assert.Equal(t, now.Add(7*24*time.Hour), s.ExpiresAt)
	assert.Equal(t, strings.Repeat("ü", 100), s.UserAgent)
	first, second := auth.CSRFToken(s), auth.CSRFToken(s)
	assert.True(t, auth.CSRFValid(s, first))
	assert.True(t, auth.CSRFValid(s, second))
	assert.NotEqual(t, first, second, "each page has its own form of it")
	assert.False(t, auth.CSRFValid(s, s.CSRF), "the bare token is on no page")
	assert.False(t, auth.CSRFValid(s, first[:len(first)-4]+"AAAA"))
	assert.False(t, auth.CSRFValid(s, ""))
	assert.False(t, auth.CSRFValid(models.Session{}, ""), "a session without a token accepts none")
	for _, bad := range []string{"", "x", cookie + "A", cookie[:42], strings.Repeat("!", 43)} {
		_, ok := auth.HashCookie(bad)
		assert.False(t, ok, "%q", bad)
	}
}

func TestSessionEndsWhenIdleOrOld(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	_, s := auth.NewSession(models.Operator{}, "", "", now)
	assert.True(t, auth.SessionLive(s, now.Add(12*time.Hour-time.Second)))
	assert.False(t, auth.SessionLive(s, now.Add(12*time.Hour)))
	s.SeenAt = now.Add(7*24*time.Hour - time.Minute)
	assert.True(t, auth.SessionLive(s, s.SeenAt))
	assert.False(t, auth.SessionLive(s, now.Add(7*24*time.Hour)), "use does not prolong it for ever")
	assert.False(t, auth.TouchDue(s, s.SeenAt.Add(59*time.Second)))
	assert.True(t, auth.TouchDue(s, s.SeenAt.Add(time.Minute)))
}

// try makes one sign-in attempt and reports whether it was let through.
func try(t *testing.T, th *auth.Throttle, ip, email string, right bool) bool {
	t.Helper()
	done, err := th.Begin(t.Context(), ip, email)
	if err != nil {
		var e *models.Error
		require.ErrorAs(t, err, &e)
		require.Equal(t, models.CodeLimited, e.Code)
		require.Positive(t, e.RetryAfter)
		return false
	}
	done(right)
	return true
}

func TestGuessesAtAnEmailSlowDownFromAnyAddress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		th := auth.NewThrottle(time.Now)
		for i := range 6 {
			require.True(t, try(t, th, fmt.Sprintf("192.0.2.%d", i), "Ann@example.com", false), "guess %d", i)
		}
		assert.False(t, try(t, th, "192.0.2.99", " ann@EXAMPLE.com", false), "the same e-mail, however written")
		assert.True(t, try(t, th, "192.0.2.99", "bob@example.com", false), "others are not held")
		time.Sleep(time.Second)
		assert.True(t, try(t, th, "192.0.2.99", "ann@example.com", false), "the first wait is a second")
		time.Sleep(time.Second)
		assert.False(t, try(t, th, "192.0.2.99", "ann@example.com", false), "the next two")

		through := 0
		for range 24 * 60 * 60 {
			if try(t, th, "198.51.100.7", "ann@example.com", false) {
				through++
			}
			time.Sleep(time.Second)
		}
		assert.Less(t, through, 1500, "a day of guessing")
	})
}

func TestGuessesFromAnAddressSlowDownWhateverTheEmail(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		th := auth.NewThrottle(time.Now)
		through := 0
		for i := range 60 * 60 {
			if try(t, th, fmt.Sprintf("2001:db8::%x", i), fmt.Sprintf("user%d@example.com", i), false) {
				through++
			}
			time.Sleep(time.Second)
		}
		assert.Less(t, through, 30, "one IPv6 network, an hour")
		assert.True(t, try(t, th, "2001:db8:1::1", "user1@example.com", false))
	})
}

func TestSigningInForgetsTheFailures(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		th := auth.NewThrottle(time.Now)
		for range 50 {
			for range 5 {
				require.True(t, try(t, th, "192.0.2.1", "ann@example.com", true))
			}
			require.True(t, try(t, th, "192.0.2.2", "ann@example.com", true))
		}
		for range 6 {
			require.True(t, try(t, th, "192.0.2.3", "ann@example.com", false))
		}
		time.Sleep(time.Second)
		require.True(t, try(t, th, "192.0.2.3", "ann@example.com", true))
		require.True(t, try(t, th, "192.0.2.3", "ann@example.com", false), "no wait is left")
	})
}

func TestFailuresAreForgottenAfterAnHour(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		th := auth.NewThrottle(time.Now)
		for range 2 {
			for i := range 6 {
				require.True(t, try(t, th, "192.0.2.1", "ann@example.com", false), "guess %d", i)
			}
			require.False(t, try(t, th, "192.0.2.1", "ann@example.com", false))
			time.Sleep(time.Hour)
		}
	})
}

func TestGuessesSentSideBySideDoNotSlipThrough(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		th := auth.NewThrottle(time.Now)
		results := make(chan error, 50)
		for range 50 {
			go func() {
				done, err := th.Begin(context.Background(), "192.0.2.1", "ann@example.com")
				if err == nil {
					time.Sleep(50 * time.Millisecond) // the check
					done(false)
				}
				results <- err
			}()
		}
		through := 0
		for range 50 {
			if err := <-results; err == nil {
				through++
			}
		}
		assert.Equal(t, 6, through)
	})
}

func TestOnlyAFewChecksRunAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		th := auth.NewThrottle(time.Now)
		var release []func(bool)
		for i := range 4 {
			done, err := th.Begin(t.Context(), fmt.Sprintf("192.0.2.%d", i), fmt.Sprintf("u%d", i))
			require.NoError(t, err)
			release = append(release, done)
		}
		_, err := th.Begin(t.Context(), "192.0.2.50", "late")
		require.Equal(t, models.CodeUnavailable, models.ErrorCode(err), "it waits a while, then says so")
		release[0](false)
		release[0](false) // twice is once
		done, err := th.Begin(t.Context(), "192.0.2.51", "later")
		require.NoError(t, err)
		done(true)
	})
}

func TestFloodOfNamesNeitherGrowsWithoutEndNorHidesTheVictim(t *testing.T) {
	fixed := time.Now()
	th := auth.NewThrottle(func() time.Time { return fixed })
	for i := range 6 {
		require.True(t, try(t, th, fmt.Sprintf("192.0.2.%d", i), "ann@example.com", false))
	}
	for i := range 25_000 {
		done, err := th.Begin(t.Context(), fmt.Sprintf("10.%d.%d.%d", i>>16, i>>8&255, i&255), fmt.Sprintf("made-up-%d", i))
		require.NoError(t, err)
		done(false)
	}
	assert.LessOrEqual(t, auth.TracesForTest(th), 10_000)
	assert.False(t, try(t, th, "198.51.100.1", "ann@example.com", false))
}
