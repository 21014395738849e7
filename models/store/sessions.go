package store

import (
	"context"
	"time"

	"gorm.io/gorm"

	"comfyfleet/models"
)

// CreateSession stores a sign-in, and deletes the expired ones: nobody else does.
func (s *Store) CreateSession(ctx context.Context, session models.Session) error {
	return s.write(ctx, "create session", "session", func(tx *gorm.DB) error {
		if err := tx.Where("expires_at <= ?", session.CreatedAt).Delete(&models.Session{}).Error; err != nil {
			return err
		}
		row := session
		return tx.Create(&row).Error
	})
}

// SessionByHash reads a session and its operator, whatever their state.
func (s *Store) SessionByHash(ctx context.Context, hash string) (session models.Session, o models.Operator, err error) {
	err = s.readTogether(ctx, func(tx *gorm.DB) error {
		if session, err = take[models.Session](tx.Where("hash = ?", hash), "session"); err != nil {
			return err
		}
		o, err = take[models.Operator](tx.Where("id = ?", session.OperatorID), "operator")
		return err
	})
	return session, o, err
}

// TouchSession stores when a session was last used; it never goes back, and an unknown session is no error.
func (s *Store) TouchSession(ctx context.Context, hash string, at time.Time) error {
	return s.write(ctx, "touch session", "session", func(tx *gorm.DB) error {
		return tx.Exec(`UPDATE sessions SET seen_at = ? WHERE hash = ? AND seen_at < ?`, at, hash, at).Error
	})
}

// DeleteSession signs out one session; an unknown one is no error.
func (s *Store) DeleteSession(ctx context.Context, hash string) error {
	return s.write(ctx, "delete session", "session", func(tx *gorm.DB) error {
		return tx.Where("hash = ?", hash).Delete(&models.Session{}).Error
	})
}

// DeleteSessions signs an operator out everywhere.
func (s *Store) DeleteSessions(ctx context.Context, operatorID string) error {
	return s.write(ctx, "delete sessions", "session", func(tx *gorm.DB) error {
		return tx.Where("operator_id = ?", operatorID).Delete(&models.Session{}).Error
	})
}
