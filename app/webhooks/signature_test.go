package webhooks

import (
	"encoding/base64"
	"strings"
	"testing"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"comfyfleet/models"
)

// The example that the specification's libraries share: secret, id, time, body and the signature that must come out.
func TestSignatureIsTheSpecificationsExample(t *testing.T) {
	tenant := models.Tenant{WebhookSecret: "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"}
	h, err := sign(tenant, "msg_p5jXN8AQM9LWM0D4loKWxJek", []byte(`{"test": 2432232314}`), time.Unix(1614265330, 0))
	require.NoError(t, err)
	assert.Equal(t, "msg_p5jXN8AQM9LWM0D4loKWxJek", h.Get("webhook-id"))
	assert.Equal(t, "1614265330", h.Get("webhook-timestamp"))
	assert.Equal(t, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=", h.Get("webhook-signature"))
	assert.Equal(t, "application/json", h.Get("Content-Type"))
}

func TestBothSecretsSignWhileARotationLasts(t *testing.T) {
	now := time.Now()
	tenant := models.Tenant{WebhookSecret: NewSecret()}
	old := tenant.WebhookSecret
	Rotate(&tenant, now, time.Hour)
	require.NotEqual(t, old, tenant.WebhookSecret)

	verifies := func(secret string, at time.Time) bool {
		h, err := sign(tenant, "msg_1", []byte("{}"), at)
		require.NoError(t, err)
		hook, err := standardwebhooks.NewWebhook(secret)
		require.NoError(t, err)
		return hook.VerifyIgnoringTimestamp([]byte("{}"), h) == nil
	}
	assert.True(t, verifies(old, now.Add(59*time.Minute)))
	assert.True(t, verifies(tenant.WebhookSecret, now.Add(59*time.Minute)))
	assert.False(t, verifies(old, now.Add(time.Hour)), "the old one ends")
	assert.True(t, verifies(tenant.WebhookSecret, now.Add(time.Hour)))

	Rotate(&tenant, now, 0)
	assert.Empty(t, tenant.WebhookSecretPrevious)
	assert.Nil(t, tenant.WebhookSecretUntil)
}

func TestNewSecretsHaveTheFormOfTheSpecification(t *testing.T) {
	secret := NewSecret()
	encoded, ok := strings.CutPrefix(secret, "whsec_")
	require.True(t, ok)
	raw, err := base64.StdEncoding.DecodeString(encoded)
	require.NoError(t, err)
	assert.Len(t, raw, 32)
	assert.NotEqual(t, secret, NewSecret())
}

func TestNothingIsSignedWithoutASecret(t *testing.T) {
	for _, secret := range []string{"", "whsec_", "whsec_not base64!"} {
		_, err := sign(models.Tenant{WebhookSecret: secret}, "msg_1", nil, time.Now())
		assert.Error(t, err, "%q", secret)
	}
}

func TestPausesGrowAndEnd(t *testing.T) {
	var all time.Duration
	for n := 1; n < MaxAttempts; n++ {
		want := pauses()[n-1]
		for range 50 {
			got, ok := pauseAfter(n)
			require.True(t, ok)
			require.GreaterOrEqual(t, got, want)
			require.LessOrEqual(t, got, want+want/10)
		}
		all += want
	}
	assert.Equal(t, 27*time.Hour+35*time.Minute+30*time.Second, all)
	for _, n := range []int{-1, 0, MaxAttempts, MaxAttempts + 5} {
		_, ok := pauseAfter(n)
		assert.False(t, ok, "%d", n)
	}
}
