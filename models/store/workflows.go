package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"gorm.io/gorm"

	"comfyfleet/models"
)

// PutVersion stores a workflow's next version and brings the workflow's title, description, owner and UpdatedAt up to
// date. When the newest version has the same SHA256 nothing is written and that version is the answer. A slug that is
// private to another tenant, or public while w is private, is CodeConflict "slug_taken".
func (s *Store) PutVersion(ctx context.Context, w models.Workflow, v models.WorkflowVersion) (version int, err error) {
	v.Slug = w.Slug
	if v.CreatedAt.IsZero() {
		v.CreatedAt = s.now()
	}
	v.Graph, v.Editor, v.Params = s.pack(v.Graph), s.pack(v.Editor), s.pack(v.Params)
	err = s.write(ctx, "store workflow version", "workflow", func(tx *gorm.DB) error {
		newest, err := newestVersion(tx, w.Slug)
		if err != nil {
			return err
		}
		if err := checkOwner(tx, w); err != nil {
			return err
		}
		if newest.Version > 0 && newest.SHA256 == v.SHA256 {
			version = newest.Version
			return nil
		}
		if err := putWorkflow(tx, w, v.CreatedAt); err != nil {
			return err
		}
		row := v
		row.Version = newest.Version + 1
		version = row.Version
		return tx.Create(&row).Error
	})
	return version, err
}

// Workflow reads a workflow that the tenant may see: a public one or its own. An empty tenantID sees all.
func (s *Store) Workflow(ctx context.Context, tenantID, slug string) (models.Workflow, error) {
	return take[models.Workflow](visible(s.read(ctx), tenantID).Where("slug = ?", slug), "workflow")
}

// Workflows reads the workflows that the tenant may see, by slug. An empty tenantID sees all.
func (s *Store) Workflows(ctx context.Context, tenantID string) ([]models.Workflow, error) {
	list := []models.Workflow{}
	err := visible(s.read(ctx), tenantID).Order("slug").Find(&list).Error
	return list, translate(err, "read workflows", "workflow")
}

// Version reads one version of a workflow, the newest for 0.
func (s *Store) Version(ctx context.Context, slug string, version int) (models.WorkflowVersion, error) {
	q := s.read(ctx).Where("slug = ?", slug).Order("version DESC")
	if version > 0 {
		q = q.Where("version = ?", version)
	}
	v, err := take[models.WorkflowVersion](q, "workflow version")
	if err != nil {
		return v, err
	}
	return v, s.unpackVersion(&v)
}

// Versions reads all versions of a workflow, newest first.
func (s *Store) Versions(ctx context.Context, slug string) ([]models.WorkflowVersion, error) {
	list := []models.WorkflowVersion{}
	if err := s.read(ctx).Where("slug = ?", slug).Order("version DESC").Find(&list).Error; err != nil {
		return nil, translate(err, "read workflow versions", "workflow")
	}
	for i := range list {
		if err := s.unpackVersion(&list[i]); err != nil {
			return nil, err
		}
	}
	return list, nil
}

// Alias reads the version that an alias points at.
func (s *Store) Alias(ctx context.Context, slug, alias string) (int, error) {
	a, err := take[models.WorkflowAlias](s.read(ctx).Where("slug = ? AND alias = ?", slug, alias), "alias")
	return a.Version, err
}

// Aliases reads a workflow's aliases by name.
func (s *Store) Aliases(ctx context.Context, slug string) ([]models.WorkflowAlias, error) {
	list := []models.WorkflowAlias{}
	err := s.read(ctx).Where("slug = ?", slug).Order("alias").Find(&list).Error
	return list, translate(err, "read aliases", "alias")
}

// SetAlias points an alias at a version; CodeNotFound when there is no such version.
func (s *Store) SetAlias(ctx context.Context, slug, alias string, version int, at time.Time) error {
	return s.write(ctx, "set alias", "alias", func(tx *gorm.DB) error {
		err := tx.Exec(`INSERT INTO workflow_aliases (slug, alias, version, moved_at) VALUES (?, ?, ?, ?)
			ON CONFLICT (slug, alias) DO UPDATE SET version = excluded.version, moved_at = excluded.moved_at`,
			slug, alias, version, at).Error
		if errors.Is(err, gorm.ErrForeignKeyViolated) {
			return models.ErrNotFound("workflow version")
		}
		return err
	})
}

func visible(db *gorm.DB, tenantID string) *gorm.DB {
	if tenantID == "" {
		return db
	}
	return db.Where("tenant_id IN ('', ?)", tenantID)
}

// newestVersion is the number and hash of a workflow's newest version, zero when it has none.
func newestVersion(tx *gorm.DB, slug string) (v models.WorkflowVersion, err error) {
	err = tx.Select("slug", "version", "sha256").Where("slug = ?", slug).Order("version DESC").Take(&v).Error
	if errors.Is(err, gorm.ErrRecordNotFound) {
		return models.WorkflowVersion{}, nil
	}
	return v, err
}

// checkOwner refuses to give somebody's slug to somebody else. Making a private workflow public is allowed.
func checkOwner(tx *gorm.DB, w models.Workflow) error {
	var old models.Workflow
	err := tx.Where("slug = ?", w.Slug).Take(&old).Error
	if errors.Is(err, gorm.ErrRecordNotFound) {
		return nil
	}
	if err == nil && w.TenantID != "" && old.TenantID != w.TenantID {
		return models.Errorf(models.CodeConflict, "slug_taken", "the slug %q is taken; choose another", w.Slug)
	}
	return err
}

func putWorkflow(tx *gorm.DB, w models.Workflow, at time.Time) error {
	return tx.Exec(`INSERT INTO workflows (slug, title, description, tenant_id, bundled, created_at, updated_at)
		VALUES (?, ?, ?, ?, ?, ?, ?)
		ON CONFLICT (slug) DO UPDATE SET title = excluded.title, description = excluded.description,
		tenant_id = excluded.tenant_id, bundled = excluded.bundled, updated_at = excluded.updated_at`,
		w.Slug, w.Title, w.Description, w.TenantID, w.Bundled, at, at).Error
}

func (s *Store) unpackVersion(v *models.WorkflowVersion) error {
	for _, b := range []*[]byte{&v.Graph, &v.Editor, &v.Params} {
		out, err := s.unpack(*b)
		if err != nil {
			return fmt.Errorf("read workflow %s version %d: %w", v.Slug, v.Version, err)
		}
		*b = out
	}
	return nil
}
