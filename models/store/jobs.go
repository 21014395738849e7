package store

import (
	"context"
	"fmt"
	"reflect"
	"strings"
	"time"

	"gorm.io/gorm"

	"comfyfleet/models"
)

// payloadRow is a job's big values, compressed.
type payloadRow struct {
	JobSeq       int64 `gorm:"primaryKey;autoIncrement:false"`
	Graph        []byte
	Inputs       []byte
	ExtraPNGInfo []byte
}

func (payloadRow) TableName() string { return "job_payloads" }

// mediaRow is one models.MediaRef of a job.
type mediaRow struct {
	JobID           string `gorm:"primaryKey"`
	Position        int    `gorm:"primaryKey"`
	models.MediaRef `gorm:"embedded"`
}

func (mediaRow) TableName() string { return "media_refs" }

// Job reads a job. An empty tenantID is an operator; for anybody else another tenant's job is CodeNotFound.
func (s *Store) Job(ctx context.Context, tenantID, id string) (models.Job, error) {
	job, err := jobByID(s.read(ctx), tenantID, id)
	return job, translate(err, "read job", "job")
}

// Payload reads a job's big values.
func (s *Store) Payload(ctx context.Context, jobID string) (models.JobPayload, error) {
	p := models.JobPayload{JobID: jobID}
	var row payloadRow
	var media []mediaRow
	err := s.readTogether(ctx, func(tx *gorm.DB) error {
		seq := tx.Table("jobs").Select("seq").Where("id = ?", jobID)
		if err := tx.Where("job_seq = (?)", seq).Take(&row).Error; err != nil {
			return err
		}
		return tx.Where("job_id = ?", jobID).Order("position").Find(&media).Error
	})
	if err != nil {
		return p, translate(err, "read job payload", "job")
	}
	for _, m := range media {
		p.Media = append(p.Media, m.MediaRef)
	}
	for _, v := range []struct {
		to   *[]byte
		from []byte
	}{{&p.Graph, row.Graph}, {&p.Inputs, row.Inputs}, {&p.ExtraPNGInfo, row.ExtraPNGInfo}} {
		if *v.to, err = s.unpack(v.from); err != nil {
			return p, fmt.Errorf("read job payload: %w", err)
		}
	}
	return p, nil
}

// RecentDurations are the load, execution and collection times together, in milliseconds, of the last n succeeded
// jobs, newest first; of one workflow, or of any for "".
func (s *Store) RecentDurations(ctx context.Context, slug string, n int) ([]int64, error) {
	q := s.read(ctx).Table("jobs").Where("state = 'succeeded'")
	if slug != "" {
		q = q.Where("workflow_slug = ?", slug)
	}
	ms := []int64{}
	err := q.Order("seq DESC").Limit(n).Pluck("load_ms + exec_ms + collect_ms", &ms).Error
	return ms, translate(err, "read recent durations", "job")
}

// JobState reads a job's state alone; an empty tenantID is an operator. CodeNotFound when it is another tenant's.
func (s *Store) JobState(ctx context.Context, tenantID, id string) (state models.JobState, err error) {
	err = s.read(ctx).Raw(`SELECT state FROM jobs WHERE id = ? AND ? IN ('', tenant_id)`, id, tenantID).Row().Scan(&state)
	return state, translate(err, "read job", "job")
}

func jobByID(db *gorm.DB, tenantID, id string) (models.Job, error) {
	return jobsTable.take(db, "id = ? AND ? IN ('', tenant_id)", id, tenantID)
}

// lockJob reads a job that this transaction is about to change. SQLite has one writer, so there is nothing to lock.
func lockJob(tx *gorm.DB, tenantID, id string) (models.Job, error) {
	return jobByID(tx, tenantID, id)
}

// record stores what steps led a job from before to after: only the columns that differ, by compare-and-set on the
// revision, with the tenant's counters and the events.
func (s *Store) record(tx *gorm.DB, before, after models.Job, steps ...eventRow) error {
	set, args := changes(&before, &after)
	changed, err := execSQL(tx, "UPDATE jobs SET "+set+" WHERE seq = ? AND revision = ?", append(args, before.Seq, before.Revision)...)
	switch {
	case err != nil:
		return err
	case changed != 1:
		return models.ErrFenced
	}
	if err := moveLoad(tx, before, after); err != nil {
		return err
	}
	return addEvents(tx, after, steps)
}

// changes are the columns in which two states of a job differ, as assignments.
func changes(before, after *models.Job) (set string, args []any) {
	ctx := context.Background()
	old, now := reflect.ValueOf(before).Elem(), reflect.ValueOf(after).Elem()
	var names []string
	for _, f := range jobsTable.fields {
		a, _ := f.ValueOf(ctx, old)
		b, _ := f.ValueOf(ctx, now)
		if a != b {
			names, args = append(names, `"`+f.DBName+`" = ?`), append(args, b)
		}
	}
	return strings.Join(names, ", "), args
}

// progressed is the snapshot p for a job that stands at old: never lower, and 100 only by success.
func progressed(old, p models.Progress) models.Progress {
	p.Percent = max(old.Percent, min(p.Percent, 99))
	if p.LastEventAt == nil {
		p.LastEventAt = old.LastEventAt
	}
	p.LastEventAt = stampAt(p.LastEventAt)
	return p
}

// since is the time from a to b in whole milliseconds, never negative.
func since(a, b time.Time) int64 { return max(0, b.Sub(a).Milliseconds()) }
