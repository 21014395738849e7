package webhooks

import (
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"comfyfleet/models"
)

const secretMark = "whsec_"

// NewSecret makes a signing secret of 256 random bits. The specification asks for 24 to 64 bytes.
func NewSecret() string {
	var raw [32]byte
	_, _ = rand.Read(raw[:]) // never fails: it ends the program instead
	return secretMark + base64.StdEncoding.EncodeToString(raw[:])
}

// Rotate gives t a new signing secret. For overlap the old one signs too, so that receivers can change theirs without a
// gap; 0 ends it at once.
func Rotate(t *models.Tenant, now time.Time, overlap time.Duration) {
	t.WebhookSecretPrevious, t.WebhookSecretUntil = "", nil
	if overlap > 0 {
		until := now.Add(overlap)
		t.WebhookSecretPrevious, t.WebhookSecretUntil = t.WebhookSecret, &until
	}
	t.WebhookSecret = NewSecret()
}

// sign makes the headers of one attempt. The timestamp is the attempt's, so that an old message is not taken for a
// replay; the id is the message's.
func sign(t models.Tenant, id string, payload []byte, now time.Time) (http.Header, error) {
	secrets := []string{t.WebhookSecret}
	if t.WebhookSecretPrevious != "" && t.WebhookSecretUntil != nil && now.Before(*t.WebhookSecretUntil) {
		secrets = append(secrets, t.WebhookSecretPrevious)
	}
	signatures := make([]string, 0, len(secrets))
	for _, secret := range secrets {
		if strings.TrimPrefix(secret, secretMark) == "" {
			return nil, fmt.Errorf("the tenant has no signing secret")
		}
		hook, err := standardwebhooks.NewWebhook(secret)
		if err != nil {
			return nil, fmt.Errorf("the tenant's signing secret is no base64")
		}
		signature, err := hook.Sign(id, now, payload)
		if err != nil {
			return nil, fmt.Errorf("sign: %w", err)
		}
		signatures = append(signatures, signature)
	}
	h := http.Header{}
	h.Set("Content-Type", "application/json")
	h.Set(standardwebhooks.HeaderWebhookID, id)
	h.Set(standardwebhooks.HeaderWebhookTimestamp, strconv.FormatInt(now.Unix(), 10))
	h.Set(standardwebhooks.HeaderWebhookSignature, strings.Join(signatures, " "))
	return h, nil
}
