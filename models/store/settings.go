package store

import (
	"context"

	"gorm.io/gorm"
)

// Setting reads what the service itself keeps under a name; ok is false when nothing is.
func (s *Store) Setting(ctx context.Context, name string) (value string, ok bool, err error) {
	var values []string
	err = s.read(ctx).Table("settings").Where("name = ?", name).Pluck("value", &values).Error
	if err != nil || len(values) == 0 {
		return "", false, translate(err, "read setting "+name, "setting")
	}
	return values[0], true, nil
}

// SetSetting stores value under name.
func (s *Store) SetSetting(ctx context.Context, name, value string) error {
	return s.write(ctx, "store setting "+name, "setting", func(tx *gorm.DB) error {
		return tx.Exec(`INSERT INTO settings (name, value) VALUES (?, ?)
			ON CONFLICT (name) DO UPDATE SET value = excluded.value`, name, value).Error
	})
}
