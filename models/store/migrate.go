package store

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"

	"github.com/go-gormigrate/gormigrate/v2"
	"gorm.io/gorm"
)

// migrations are numbered files of hand-written SQL, one folder per dialect, one transaction each. A file that was
// released never changes.
//
//go:embed migrations
var migrations embed.FS

// migrate applies what the database does not have yet.
func migrate(ctx context.Context, db *gorm.DB) error {
	list, err := migrationsFor(db.Name())
	if err != nil {
		return err
	}
	options := &gormigrate.Options{TableName: "migrations", IDColumnName: "id", IDColumnSize: 255,
		UseTransaction: true, ValidateUnknownMigrations: true}
	err = gormigrate.New(db.WithContext(ctx), options, list).Migrate()
	if errors.Is(err, gormigrate.ErrUnknownPastMigration) {
		return errors.New("a newer comfyfleet has changed this database; run that version, or restore a backup from before")
	}
	if err != nil {
		return fmt.Errorf("migrate: %w", err)
	}
	return nil
}

func migrationsFor(dialect string) ([]*gormigrate.Migration, error) {
	files, err := fs.Glob(migrations, path.Join("migrations", dialect, "*.sql")) // sorted by name
	if err != nil {
		return nil, err
	}
	var list []*gormigrate.Migration
	for _, file := range files {
		text, err := migrations.ReadFile(file)
		if err != nil {
			return nil, err
		}
		list = append(list, &gormigrate.Migration{
			ID:      strings.TrimSuffix(path.Base(file), ".sql"),
			Migrate: func(tx *gorm.DB) error { return tx.Exec(string(text)).Error },
		})
	}
	if len(list) == 0 {
		return nil, fmt.Errorf("no migrations for %s", dialect)
	}
	return list, nil
}
