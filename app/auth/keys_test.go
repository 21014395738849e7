package auth_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"comfyfleet/app/auth"
	"comfyfleet/models"
)

// keyStore is a store in memory that counts what it is asked.
type keyStore struct {
	mu      sync.Mutex
	keys    map[string]models.APIKey
	tenants map[string]models.Tenant
	lookups int
	touched []map[string]models.KeyUse
	err     error
	// gate, when set, holds look-ups after they have read their answer until it is closed.
	gate chan struct{}
	// asked, when set, gets a token for each look-up.
	asked chan struct{}
}

func (s *keyStore) KeyByHash(ctx context.Context, hash string) (models.APIKey, models.Tenant, error) {
	s.mu.Lock()
	s.lookups++
	key, ok := s.keys[hash]
	tenant, err, gate, asked := s.tenants[key.TenantID], s.err, s.gate, s.asked
	s.mu.Unlock()
	if asked != nil {
		asked <- struct{}{}
	}
	if gate != nil {
		select {
		case <-gate:
		case <-ctx.Done():
			return models.APIKey{}, models.Tenant{}, ctx.Err()
		}
	}
	if err != nil {
		return models.APIKey{}, models.Tenant{}, err
	}
	if !ok {
		return models.APIKey{}, models.Tenant{}, models.ErrNotFound("key")
	}
	return key, tenant, nil
}

func (s *keyStore) TouchKeys(_ context.Context, uses map[string]models.KeyUse) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return s.err
	}
	s.touched = append(s.touched, maps.Clone(uses))
	return nil
}

func (s *keyStore) change(key string, f func(*models.APIKey)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	k := s.keys[auth.HashKey(key)]
	f(&k)
	s.keys[auth.HashKey(key)] = k
}

func (s *keyStore) asks() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.lookups
}

func (s *keyStore) writes() []map[string]models.KeyUse {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.touched
}

// newKeyStore has one tenant "t" with one key.
func newKeyStore() (*keyStore, string) {
	key, k := auth.NewKey()
	k.ID, k.TenantID, k.Scopes = "k", "t", "jobs:read"
	return &keyStore{
		keys:    map[string]models.APIKey{k.Hash: k},
		tenants: map[string]models.Tenant{"t": {ID: "t", Name: "acme"}},
	}, key
}

func TestAuthenticateKnowsTheTenantAndCachesBriefly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, key := newKeyStore()
		keys := auth.NewKeys(store, time.Now)
		for range 10 {
			p, err := keys.Authenticate(t.Context(), key, "192.0.2.1")
			require.NoError(t, err)
			assert.Equal(t, "acme", p.Tenant.Name)
			assert.True(t, p.Has(models.ScopeRead))
		}
		assert.Equal(t, 1, store.asks())

		store.change(key, func(k *models.APIKey) { now := time.Now(); k.RevokedAt = &now })
		time.Sleep(5 * time.Second) // of the bubble's clock: the promise of the contract
		_, err := keys.Authenticate(t.Context(), key, "192.0.2.1")
		assert.Equal(t, models.CodeUnauth, models.ErrorCode(err))
	})
}

func TestForgetMakesARevocationHoldAtOnce(t *testing.T) {
	store, key := newKeyStore()
	keys := auth.NewKeys(store, time.Now)
	_, err := keys.Authenticate(t.Context(), key, "")
	require.NoError(t, err)
	store.change(key, func(k *models.APIKey) { now := time.Now(); k.RevokedAt = &now })
	keys.Forget(auth.HashKey(key))
	_, err = keys.Authenticate(t.Context(), key, "")
	assert.Equal(t, models.CodeUnauth, models.ErrorCode(err))
}

// A look-up that read the key before it was revoked and answers after Forget must not put it back.
func TestForgetBeatsALookupUnderWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, key := newKeyStore()
		store.gate, store.asked = make(chan struct{}), make(chan struct{}, 8)
		keys := auth.NewKeys(store, time.Now)
		first := make(chan error, 1)
		go func() {
			_, err := keys.Authenticate(context.Background(), key, "")
			first <- err
		}()
		<-store.asked
		store.change(key, func(k *models.APIKey) { now := time.Now(); k.RevokedAt = &now })
		keys.Forget(auth.HashKey(key))
		close(store.gate)
		require.NoError(t, <-first, "it asked before the revocation")

		_, err := keys.Authenticate(t.Context(), key, "")
		assert.Equal(t, models.CodeUnauth, models.ErrorCode(err))
	})
}

func TestForgetTenantMakesASuspensionHoldAtOnce(t *testing.T) {
	store, key := newKeyStore()
	keys := auth.NewKeys(store, time.Now)
	_, err := keys.Authenticate(t.Context(), key, "")
	require.NoError(t, err)
	now := time.Now()
	store.tenants["t"] = models.Tenant{ID: "t", SuspendedAt: &now}
	keys.ForgetTenant("t")
	_, err = keys.Authenticate(t.Context(), key, "")
	assert.Equal(t, models.CodeForbidden, models.ErrorCode(err))
}

func TestRefusalsSayWhy(t *testing.T) {
	past, future := time.Now().Add(-time.Second), time.Now().Add(time.Hour)
	for name, c := range map[string]struct {
		key    func(good string) string
		change func(*models.APIKey)
		code   models.Code
		name   string
	}{
		"none":        {key: func(string) string { return "" }, code: models.CodeUnauth, name: "missing_key"},
		"short":       {key: func(string) string { return "abc" }, code: models.CodeUnauth, name: "unknown_key"},
		"endless":     {key: func(string) string { return fmt.Sprintf("%0600d", 0) }, code: models.CodeUnauth, name: "unknown_key"},
		"cut":         {key: func(k string) string { return k[:50] }, code: models.CodeUnauth, name: "malformed_key"},
		"another":     {key: func(string) string { k, _ := auth.NewKey(); return k }, code: models.CodeUnauth, name: "unknown_key"},
		"revoked":     {change: func(k *models.APIKey) { k.RevokedAt = &past }, code: models.CodeUnauth, name: "key_revoked"},
		"expired":     {change: func(k *models.APIKey) { k.ExpiresAt = &past }, code: models.CodeUnauth, name: "key_expired"},
		"expires yet": {change: func(k *models.APIKey) { k.ExpiresAt = &future }},
	} {
		t.Run(name, func(t *testing.T) {
			store, key := newKeyStore()
			if c.change != nil {
				store.change(key, c.change)
			}
			if c.key != nil {
				key = c.key(key)
			}
			_, err := auth.NewKeys(store, time.Now).Authenticate(t.Context(), key, "")
			if c.code == "" {
				require.NoError(t, err)
				return
			}
			var e *models.Error
			require.ErrorAs(t, err, &e)
			assert.Equal(t, c.code, e.Code)
			assert.Equal(t, c.name, e.ProblemName())
		})
	}
}

func TestCachedKeyStillExpiresOnTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, key := newKeyStore()
		soon := time.Now().Add(time.Second)
		store.change(key, func(k *models.APIKey) { k.ExpiresAt = &soon })
		keys := auth.NewKeys(store, time.Now)
		_, err := keys.Authenticate(t.Context(), key, "")
		require.NoError(t, err)
		time.Sleep(time.Second)
		_, err = keys.Authenticate(t.Context(), key, "")
		assert.Equal(t, models.CodeUnauth, models.ErrorCode(err))
		assert.Equal(t, 1, store.asks(), "judged from the cache")
	})
}

func TestBootstrapKeyOfAnyFormIsAccepted(t *testing.T) {
	store, _ := newKeyStore()
	const bootstrap = "cfk_not the usual form at all"
	k := auth.DescribeKey(bootstrap)
	k.ID, k.TenantID = "boot", "t"
	store.keys[k.Hash] = k
	p, err := auth.NewKeys(store, time.Now).Authenticate(t.Context(), bootstrap, "")
	require.NoError(t, err)
	assert.Equal(t, "boot", p.Key.ID)
}

func TestUnknownKeysAreRememberedBrieflyAndFoundOnceCreated(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, _ := newKeyStore()
		keys := auth.NewKeys(store, time.Now)
		late, k := auth.NewKey()
		for range 5 {
			_, err := keys.Authenticate(t.Context(), late, "")
			require.Equal(t, models.CodeUnauth, models.ErrorCode(err))
		}
		assert.Equal(t, 1, store.asks())
		k.ID, k.TenantID = "late", "t"
		store.mu.Lock()
		store.keys[k.Hash] = k
		store.mu.Unlock()
		time.Sleep(5 * time.Second)
		_, err := keys.Authenticate(t.Context(), late, "")
		assert.NoError(t, err)
	})
}

func TestFloodOfUnknownKeysKeepsGoodOnesCached(t *testing.T) {
	store, key := newKeyStore()
	fixed := time.Now()
	keys := auth.NewKeys(store, func() time.Time { return fixed })
	_, err := keys.Authenticate(t.Context(), key, "")
	require.NoError(t, err)
	for i := range 6000 {
		_, err := keys.Authenticate(t.Context(), fmt.Sprintf("made up key number %08d", i), "")
		require.Equal(t, models.CodeUnauth, models.ErrorCode(err))
	}
	before := store.asks()
	_, err = keys.Authenticate(t.Context(), key, "")
	require.NoError(t, err)
	assert.Equal(t, before, store.asks())
}

func TestSimultaneousMissesAskOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, key := newKeyStore()
		store.gate = make(chan struct{})
		keys := auth.NewKeys(store, time.Now)
		errs := make(chan error, 20)
		for range 20 {
			go func() {
				_, err := keys.Authenticate(context.Background(), key, "")
				errs <- err
			}()
		}
		synctest.Wait()
		close(store.gate)
		for range 20 {
			require.NoError(t, <-errs)
		}
		assert.Equal(t, 1, store.asks())
	})
}

func TestOneCallersEndDoesNotFailTheOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, key := newKeyStore()
		store.gate = make(chan struct{})
		keys := auth.NewKeys(store, time.Now)
		leaving, leave := context.WithCancel(context.Background())
		gone, stays := make(chan error, 1), make(chan error, 1)
		go func() { _, err := keys.Authenticate(leaving, key, ""); gone <- err }()
		synctest.Wait()
		go func() { _, err := keys.Authenticate(context.Background(), key, ""); stays <- err }()
		synctest.Wait()
		leave()
		require.ErrorIs(t, <-gone, context.Canceled)
		close(store.gate)
		require.NoError(t, <-stays)
	})
}

func TestStoreTroubleIsNeitherCachedNorCalledAWrongKey(t *testing.T) {
	store, key := newKeyStore()
	store.err = errors.New("disk on fire")
	keys := auth.NewKeys(store, time.Now)
	_, err := keys.Authenticate(t.Context(), key, "")
	require.Equal(t, models.CodeInternal, models.ErrorCode(err))
	store.err = nil
	_, err = keys.Authenticate(t.Context(), key, "")
	assert.NoError(t, err)
}

func TestLastUseIsWrittenInBatchesAndKeptOverFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, key := newKeyStore()
		keys := auth.NewKeys(store, time.Now)
		_, err := keys.Authenticate(t.Context(), key, "192.0.2.1")
		require.NoError(t, err)
		store.err = errors.New("locked")
		require.Error(t, keys.Flush(t.Context()))
		store.err = nil

		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			keys.Run(ctx, func(err error) { t.Errorf("flush: %v", err) })
		}()
		first := time.Now()
		time.Sleep(31 * time.Second)
		require.Len(t, store.writes(), 1)
		assert.Equal(t, map[string]models.KeyUse{"k": {At: first, IP: "192.0.2.1"}}, store.writes()[0])

		_, err = keys.Authenticate(t.Context(), key, "192.0.2.2")
		require.NoError(t, err)
		cancel()
		<-ended
		require.Len(t, store.writes(), 2, "the end writes what is left")
		assert.Equal(t, "192.0.2.2", store.writes()[1]["k"].IP)
	})
}
