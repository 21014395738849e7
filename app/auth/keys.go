package auth

import (
	"context"
	"crypto/subtle"
	"fmt"
	"maps"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/singleflight"

	"comfyfleet/models"
)

const (
	// keyLife is how long an answer of the store is believed. A revocation that came another way than Forget is
	// seen within it, and it must stay under the 5 s that are promised.
	keyLife = 3 * time.Second
	// maxKnown and maxUnknown bound the cache. Unknown keys have their own part, so that somebody who tries many
	// cannot push out the good ones.
	maxKnown   = 10_000
	maxUnknown = 4_096
	// lookupLimit bounds one look-up; it serves all who wait for it, so it follows none of their contexts.
	lookupLimit = 15 * time.Second
	// flushEvery is how stale the last use of a key may be in lists.
	flushEvery = 30 * time.Second
)

// KeyStore is what Keys need of the database.
type KeyStore interface {
	// KeyByHash answers CodeNotFound for an unknown key. Revoked and expired keys are found.
	KeyByHash(ctx context.Context, hash string) (models.APIKey, models.Tenant, error)
	TouchKeys(ctx context.Context, uses map[string]models.KeyUse) error
}

// Keys authenticates API keys. It is safe for concurrent use.
type Keys struct {
	store KeyStore
	now   func() time.Time
	// group lets the requests that miss the cache together ask once.
	group singleflight.Group

	mu      sync.Mutex
	known   map[string]cachedKey // by hash
	unknown map[string]time.Time // by hash: when it was looked up
	uses    map[string]models.KeyUse
	// epoch counts Forgets: an answer that was read before one is not cached after it.
	epoch uint64
}

type cachedKey struct {
	principal Principal
	at        time.Time
}

// NewKeys makes an authenticator over store. Run, or Flush from elsewhere, writes down when keys were last used.
func NewKeys(store KeyStore, now func() time.Time) *Keys {
	return &Keys{
		store: store, now: now,
		known: map[string]cachedKey{}, unknown: map[string]time.Time{}, uses: map[string]models.KeyUse{},
	}
}

// Authenticate tells whose key it is; ip is noted as its last use. CodeUnauth when it is none, revoked or expired;
// CodeForbidden when its tenant is suspended.
func (k *Keys) Authenticate(ctx context.Context, key, ip string) (Principal, error) {
	if key == "" {
		return Principal{}, models.Errorf(models.CodeUnauth, "missing_key", "send an API key: Authorization: Bearer <key>, or X-API-Key: <key>")
	}
	if len(key) < MinBootstrapKey || len(key) > maxKey {
		return Principal{}, errWrongKey(key)
	}
	hash := HashKey(key)
	p, found, err := k.lookup(ctx, hash)
	if err != nil {
		return Principal{}, err
	}
	if !found {
		return Principal{}, errWrongKey(key)
	}
	// Times are judged now, not when the answer was cached.
	now := k.now()
	switch {
	case p.Key.RevokedAt != nil:
		return Principal{}, models.Errorf(models.CodeUnauth, "key_revoked", "this API key was revoked")
	case p.Key.ExpiresAt != nil && !now.Before(*p.Key.ExpiresAt):
		return Principal{}, models.Errorf(models.CodeUnauth, "key_expired", "this API key has expired")
	case p.Tenant.SuspendedAt != nil:
		return Principal{}, models.Errorf(models.CodeForbidden, "tenant_suspended", "this account is suspended; ask the operator of the service")
	}
	k.mu.Lock()
	k.uses[p.Key.ID] = models.KeyUse{At: now, IP: strings.Clone(ip)}
	k.mu.Unlock()
	return p, nil
}

// Forget makes the next use of the key with this hash ask the store: what was just done to it holds at once.
func (k *Keys) Forget(hash string) {
	k.mu.Lock()
	k.epoch++
	delete(k.known, hash)
	delete(k.unknown, hash)
	k.mu.Unlock()
	k.group.Forget(hash)
}

// ForgetTenant is Forget for all keys of a tenant, after a change to the tenant.
func (k *Keys) ForgetTenant(id string) {
	var hashes []string
	k.mu.Lock()
	k.epoch++
	for hash, c := range k.known {
		if c.principal.Tenant.ID == id {
			delete(k.known, hash)
			hashes = append(hashes, hash)
		}
	}
	k.mu.Unlock()
	for _, hash := range hashes {
		k.group.Forget(hash)
	}
}

// Run writes the last uses down now and then, and a last time when ctx ends. report gets what went wrong; the uses are
// kept for the next time.
func (k *Keys) Run(ctx context.Context, report func(error)) {
	tick := time.NewTicker(flushEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			last, cancel := context.WithTimeout(context.WithoutCancel(ctx), lookupLimit)
			defer cancel()
			if err := k.Flush(last); err != nil {
				report(err)
			}
			return
		}
		if err := k.Flush(ctx); err != nil {
			report(err)
		}
	}
}

// Flush writes the last uses since the previous Flush in one go. After an error they are kept for the next.
func (k *Keys) Flush(ctx context.Context) error {
	k.mu.Lock()
	uses := k.uses
	k.uses = map[string]models.KeyUse{}
	k.mu.Unlock()
	if len(uses) == 0 {
		return nil
	}
	err := k.store.TouchKeys(ctx, uses)
	if err == nil {
		return nil
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	maps.Copy(uses, k.uses) // newer ones win
	k.uses = uses
	return fmt.Errorf("write last use of keys: %w", err)
}

func (k *Keys) lookup(ctx context.Context, hash string) (p Principal, found bool, err error) {
	if p, found, ok := k.cached(hash); ok {
		return p, found, nil
	}
	answer := k.group.DoChan(hash, func() (any, error) {
		shared, cancel := context.WithTimeout(context.WithoutCancel(ctx), lookupLimit)
		defer cancel()
		return k.ask(shared, hash)
	})
	select {
	case a := <-answer:
		if models.ErrorCode(a.Err) == models.CodeNotFound {
			return Principal{}, false, nil
		}
		if a.Err != nil {
			return Principal{}, false, fmt.Errorf("look up API key: %w", a.Err)
		}
		return a.Val.(Principal), true, nil
	case <-ctx.Done():
		return Principal{}, false, ctx.Err()
	}
}

func (k *Keys) cached(hash string) (p Principal, found, ok bool) {
	now := k.now()
	k.mu.Lock()
	defer k.mu.Unlock()
	if c, ok := k.known[hash]; ok && now.Sub(c.at) < keyLife {
		return c.principal, true, true
	}
	if at, ok := k.unknown[hash]; ok && now.Sub(at) < keyLife {
		return Principal{}, false, true
	}
	return Principal{}, false, false
}

// ask reads the store and caches the answer. An error other than "not found" is never cached.
func (k *Keys) ask(ctx context.Context, hash string) (Principal, error) {
	k.mu.Lock()
	epoch := k.epoch
	k.mu.Unlock()
	at := k.now()

	key, tenant, err := k.store.KeyByHash(ctx, hash)
	if err == nil && subtle.ConstantTimeCompare([]byte(key.Hash), []byte(hash)) != 1 {
		err = models.ErrNotFound("key") // the database found it by another rule of equality than ours
	}
	missing := models.ErrorCode(err) == models.CodeNotFound

	k.mu.Lock()
	defer k.mu.Unlock()
	if k.epoch == epoch {
		delete(k.known, hash)
		switch {
		case err == nil:
			delete(k.unknown, hash)
			makeRoom(k.known, maxKnown, func(c cachedKey) bool { return at.Sub(c.at) >= keyLife })
			k.known[hash] = cachedKey{Principal{Tenant: tenant, Key: key}, at}
		case missing:
			makeRoom(k.unknown, maxUnknown, func(t time.Time) bool { return at.Sub(t) >= keyLife })
			k.unknown[hash] = at
		}
	}
	return Principal{Tenant: tenant, Key: key}, err
}

// makeRoom keeps m below limit: the stale go first; when that is not enough all go, which costs a look-up each.
func makeRoom[V any](m map[string]V, limit int, stale func(V) bool) {
	if len(m) < limit {
		return
	}
	maps.DeleteFunc(m, func(_ string, v V) bool { return stale(v) })
	if len(m) >= limit {
		clear(m)
	}
}

func errWrongKey(key string) error {
	if strings.HasPrefix(key, keyMark) && !WellFormed(key) {
		return models.Errorf(models.CodeUnauth, "malformed_key", "this API key is mistyped or cut off: a key is %d characters long", keyLength)
	}
	return models.Errorf(models.CodeUnauth, "unknown_key", "this API key is not known here")
}
