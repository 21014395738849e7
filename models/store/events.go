package store

import (
	"context"
	"time"

	"gorm.io/gorm"

	"comfyfleet/models"
)

// eventRow is a models.Event under its job's seq.
type eventRow struct {
	JobSeq    int64 `gorm:"primaryKey;autoIncrement:false"`
	Rev       int64 `gorm:"primaryKey;autoIncrement:false"`
	At        time.Time
	State     models.JobState
	Phase     models.Phase
	Kind      string
	AttemptID string
	Worker    string
	Percent   int
	Message   string
}

func (eventRow) TableName() string { return "events" }

// Events reads at most limit of a job's events with a revision above after, oldest first.
func (s *Store) Events(ctx context.Context, jobID string, after int64, limit int) ([]models.Event, error) {
	db := s.read(ctx)
	var rows []eventRow
	err := db.Where("job_seq = (?) AND rev > ?", db.Table("jobs").Select("seq").Where("id = ?", jobID), after).
		Order("rev").Limit(limit).Find(&rows).Error
	events := make([]models.Event, 0, len(rows))
	for _, r := range rows {
		events = append(events, models.Event{JobID: jobID, Rev: r.Rev, At: r.At, State: r.State, Phase: r.Phase,
			Kind: r.Kind, AttemptID: r.AttemptID, Worker: r.Worker, Percent: r.Percent, Message: r.Message})
	}
	return events, translate(err, "read events", "job")
}

// step takes a changed job to its next revision; the row is the event that tells of it.
func step(job *models.Job, ev models.Event) eventRow {
	job.Revision++
	return eventRow{Rev: job.Revision, At: ev.At, State: job.State, Phase: job.Phase, Kind: ev.Kind,
		AttemptID: ev.AttemptID, Worker: ev.Worker, Percent: job.Progress.Percent, Message: ev.Message}
}

// addEvents stores the steps that a stored job took.
func addEvents(tx *gorm.DB, job models.Job, steps []eventRow) error {
	for i := range steps {
		steps[i].JobSeq = job.Seq
	}
	return eventsTable.insert(tx, steps...)
}
