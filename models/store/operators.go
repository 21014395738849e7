package store

import (
	"context"

	"gorm.io/gorm"

	"comfyfleet/models"
)

// CreateOperator stores a new operator; a known id or e-mail is CodeConflict.
func (s *Store) CreateOperator(ctx context.Context, o models.Operator) error {
	return s.write(ctx, "create operator", "operator", func(tx *gorm.DB) error {
		row := o
		return tx.Create(&row).Error
	})
}

// Operator reads an operator by id.
func (s *Store) Operator(ctx context.Context, id string) (models.Operator, error) {
	return take[models.Operator](s.read(ctx).Where("id = ?", id), "operator")
}

// OperatorByEmail reads an operator by lower-case e-mail.
func (s *Store) OperatorByEmail(ctx context.Context, email string) (models.Operator, error) {
	return take[models.Operator](s.read(ctx).Where("email = ?", email), "operator")
}

// Operators reads all operators by e-mail.
func (s *Store) Operators(ctx context.Context) ([]models.Operator, error) {
	list := []models.Operator{}
	err := s.read(ctx).Order("email").Find(&list).Error
	return list, translate(err, "read operators", "operator")
}

// UpdateOperator replaces all of an operator but id and creation.
func (s *Store) UpdateOperator(ctx context.Context, o models.Operator) error {
	return s.write(ctx, "update operator", "operator", func(tx *gorm.DB) error {
		return one(tx.Model(&models.Operator{}).Where("id = ?", o.ID).Select("*").Omit("id", "created_at").Updates(&o), "operator")
	})
}
