package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"time"

	"comfyfleet/app/api"
	"comfyfleet/models/store"
)

const (
	settingURLKeys = "url_keys"
	// urlKeyLife is how old the key that signs output URLs may be at a start; an older one is replaced and stays good
	// for the URLs that it signed.
	urlKeyLife = 30 * 24 * time.Hour
)

// urlKey is one stored signing key, newest first in the setting.
type urlKey struct {
	ID     string    `json:"id"`
	Secret []byte    `json:"secret"`
	At     time.Time `json:"at"`
}

// loadSigner reads the keys that sign output URLs, and makes a new one when there is none or the newest is old.
func loadSigner(ctx context.Context, st *store.Store) (*api.Signer, error) {
	var keys []urlKey
	raw, ok, err := st.Setting(ctx, settingURLKeys)
	if err != nil {
		return nil, err
	}
	if ok {
		if err := json.Unmarshal([]byte(raw), &keys); err != nil {
			return nil, fmt.Errorf("stored setting %s: %w", settingURLKeys, err)
		}
	}
	if len(keys) == 0 || now().Sub(keys[0].At) > urlKeyLife {
		keys = append([]urlKey{newURLKey()}, keys[:min(1, len(keys))]...)
		b, err := json.Marshal(keys)
		if err != nil {
			return nil, err
		}
		if err := st.SetSetting(ctx, settingURLKeys, string(b)); err != nil {
			return nil, err
		}
	}
	sign := make([]api.SignKey, len(keys))
	for i, k := range keys {
		sign[i] = api.SignKey{ID: k.ID, Secret: k.Secret}
	}
	return api.NewSigner(now, sign...)
}

func newURLKey() urlKey {
	random := make([]byte, 36)
	_, _ = rand.Read(random) // never fails: it ends the program instead
	return urlKey{ID: hex.EncodeToString(random[:4]), Secret: random[4:], At: now()}
}
