package store

import (
	"context"
	"time"

	"gorm.io/gorm"

	"comfyfleet/models"
)

// CreateTenant stores a new tenant; a known id or name is CodeConflict.
func (s *Store) CreateTenant(ctx context.Context, t models.Tenant) error {
	return s.write(ctx, "create tenant", "tenant", func(tx *gorm.DB) error {
		row := t
		if err := tx.Create(&row).Error; err != nil {
			return err
		}
		return tx.Create(&loadRow{TenantID: t.ID}).Error
	})
}

// Tenant reads a tenant by id.
func (s *Store) Tenant(ctx context.Context, id string) (models.Tenant, error) {
	return take[models.Tenant](s.read(ctx).Where("id = ?", id), "tenant")
}

// TenantByName reads a tenant by its unique name.
func (s *Store) TenantByName(ctx context.Context, name string) (models.Tenant, error) {
	return take[models.Tenant](s.read(ctx).Where("name = ?", name), "tenant")
}

// Tenants reads all tenants by name.
func (s *Store) Tenants(ctx context.Context) ([]models.Tenant, error) {
	list := []models.Tenant{}
	err := s.read(ctx).Order("name").Find(&list).Error
	return list, translate(err, "read tenants", "tenant")
}

// UpdateTenant replaces all of a tenant but its id and creation.
func (s *Store) UpdateTenant(ctx context.Context, t models.Tenant) error {
	return s.write(ctx, "update tenant", "tenant", func(tx *gorm.DB) error {
		return one(tx.Model(&models.Tenant{}).Where("id = ?", t.ID).Select("*").Omit("id", "created_at").Updates(&t), "tenant")
	})
}

// DisableWebhooks turns a tenant's webhooks off, and leaves everything else of it as it is now. Said again it changes
// nothing.
func (s *Store) DisableWebhooks(ctx context.Context, tenantID string, at time.Time) error {
	return s.write(ctx, "disable webhooks", "tenant", func(tx *gorm.DB) error {
		return one(tx.Exec(`UPDATE tenants SET webhooks_disabled_at = COALESCE(webhooks_disabled_at, ?) WHERE id = ?`, stamp(at), tenantID), "tenant")
	})
}

// DeleteTenant removes a tenant with its keys and its private workflows. While it has jobs, finished ones too, it is
// CodeConflict "tenant_has_jobs". Its usage stays.
func (s *Store) DeleteTenant(ctx context.Context, id string) error {
	return s.write(ctx, "delete tenant", "tenant", func(tx *gorm.DB) error {
		var jobs int
		if err := tx.Raw(`SELECT COUNT(*) FROM (SELECT 1 FROM jobs WHERE tenant_id = ? LIMIT 1) AS found`, id).
			Scan(&jobs).Error; err != nil {
			return err
		}
		if jobs > 0 {
			return models.Errorf(models.CodeConflict, "tenant_has_jobs",
				"the tenant still has jobs; suspend it and delete it when its jobs have passed their retention")
		}
		if err := tx.Exec(`DELETE FROM workflows WHERE tenant_id = ?`, id).Error; err != nil {
			return err
		}
		return one(tx.Where("id = ?", id).Delete(&models.Tenant{}), "tenant")
	})
}

// one makes a change of no row a CodeNotFound.
func one(res *gorm.DB, noun string) error {
	if res.Error == nil && res.RowsAffected == 0 {
		return models.ErrNotFound(noun)
	}
	return res.Error
}
