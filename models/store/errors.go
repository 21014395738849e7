package store

import (
	"database/sql"
	"errors"
	"fmt"

	"github.com/mattn/go-sqlite3"
	"gorm.io/gorm"

	"comfyfleet/models"
)

// translate turns a database's error into one that callers may act on. What says what was being done ("read job");
// noun is what was looked for or clashed ("job").
func translate(err error, what, noun string) error {
	var known *models.Error
	var lite sqlite3.Error
	switch {
	case err == nil:
		return nil
	case errors.As(err, &known):
		return err
	case errors.Is(err, gorm.ErrRecordNotFound), errors.Is(err, sql.ErrNoRows):
		return models.ErrNotFound(noun)
	case errors.Is(err, gorm.ErrDuplicatedKey):
		return &models.Error{Code: models.CodeConflict, Name: "already_exists",
			Detail: "there is already such a " + noun, Err: err}
	case errors.As(err, &lite) && lite.Code == sqlite3.ErrFull:
		return &models.Error{Code: models.CodeFull, Detail: "the server has no disk space left", Err: err}
	case errors.As(err, &lite) && (lite.Code == sqlite3.ErrBusy || lite.Code == sqlite3.ErrLocked):
		return &models.Error{Code: models.CodeUnavailable, Name: "database_busy",
			Detail: "the database is busy; try again", RetryAfter: 1, Err: err}
	}
	return fmt.Errorf("%s: %w", what, err)
}
