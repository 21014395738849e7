package store

import (
	"context"
	"time"

	"gorm.io/gorm"

	"comfyfleet/models"
)

// CreateKey stores a new API key; a known id or hash is CodeConflict.
func (s *Store) CreateKey(ctx context.Context, k models.APIKey) error {
	return s.write(ctx, "create key", "key", func(tx *gorm.DB) error {
		row := k
		return tx.Create(&row).Error
	})
}

// KeyByHash reads a key and its tenant, whatever their state.
func (s *Store) KeyByHash(ctx context.Context, hash string) (k models.APIKey, t models.Tenant, err error) {
	err = s.readTogether(ctx, func(tx *gorm.DB) error {
		if k, err = take[models.APIKey](tx.Where("hash = ?", hash), "key"); err != nil {
			return err
		}
		t, err = take[models.Tenant](tx.Where("id = ?", k.TenantID), "tenant")
		return err
	})
	return k, t, err
}

// Key reads a key by id.
func (s *Store) Key(ctx context.Context, id string) (models.APIKey, error) {
	return take[models.APIKey](s.read(ctx).Where("id = ?", id), "key")
}

// Keys reads a tenant's keys, oldest first, of all tenants for "".
func (s *Store) Keys(ctx context.Context, tenantID string) ([]models.APIKey, error) {
	q := s.read(ctx)
	if tenantID != "" {
		q = q.Where("tenant_id = ?", tenantID)
	}
	keys := []models.APIKey{}
	err := q.Order("tenant_id, created_at, id").Find(&keys).Error
	return keys, translate(err, "read keys", "key")
}

// RevokeKey ends a key at that time. The first revocation stands.
func (s *Store) RevokeKey(ctx context.Context, id string, at time.Time) error {
	return s.write(ctx, "revoke key", "key", func(tx *gorm.DB) error {
		return one(tx.Exec(`UPDATE api_keys SET revoked_at = COALESCE(revoked_at, ?) WHERE id = ?`, at, id), "key")
	})
}

// TouchKeys stores last uses by key id, in one transaction. A use older than the stored one changes nothing, and so
// does that of an unknown key.
func (s *Store) TouchKeys(ctx context.Context, uses map[string]models.KeyUse) error {
	if len(uses) == 0 {
		return nil
	}
	return s.write(ctx, "store last use of keys", "key", func(tx *gorm.DB) error {
		for id, use := range uses {
			if err := tx.Exec(`UPDATE api_keys SET last_used_at = ?, last_used_ip = ?
				WHERE id = ? AND (last_used_at IS NULL OR last_used_at < ?)`, use.At, use.IP, id, use.At).Error; err != nil {
				return err
			}
		}
		return nil
	})
}
