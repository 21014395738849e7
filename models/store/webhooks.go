package store

import (
	"context"
	"time"

	"gorm.io/gorm"

	"comfyfleet/models"
)

// DueDeliveries reads at most limit pending deliveries whose time has come, the longest due first.
func (s *Store) DueDeliveries(ctx context.Context, now time.Time, limit int) ([]models.Delivery, error) {
	due := []models.Delivery{}
	err := s.read(ctx).Where("state = 'pending' AND next_at <= ?", now).Order("next_at").Limit(limit).Find(&due).Error
	return due, translate(err, "read due deliveries", "delivery")
}

// NextDelivery is when the next pending delivery is due, which may be past; ok is false when none is pending.
func (s *Store) NextDelivery(ctx context.Context) (at time.Time, ok bool, err error) {
	var next []time.Time
	err = s.read(ctx).Table("deliveries").Where("state = 'pending' AND next_at IS NOT NULL").
		Order("next_at").Limit(1).Pluck("next_at", &next).Error
	if err != nil || len(next) == 0 {
		return time.Time{}, false, translate(err, "read next delivery", "delivery")
	}
	return next[0], true, nil
}

// RecordDelivery stores one try of a delivery and where that leaves it; next is when to try again, nil when state is
// final. Number is filled when it is 0; one that exists already is CodeConflict and changes nothing.
func (s *Store) RecordDelivery(ctx context.Context, a models.DeliveryAttempt, state models.DeliveryState, next *time.Time) error {
	next = stampAt(next)
	return s.write(ctx, "record delivery", "delivery", func(tx *gorm.DB) error {
		d, err := take[models.Delivery](tx.Where("id = ?", a.DeliveryID), "delivery")
		if err != nil {
			return err
		}
		row := a
		if row.Number == 0 {
			row.Number = d.Attempts + 1
		}
		if err := tx.Create(&row).Error; err != nil {
			return err
		}
		set := map[string]any{"attempts": row.Number, "state": state, "next_at": next, "done_at": nil}
		if state != models.DeliveryPending {
			set["next_at"], set["done_at"] = nil, row.At
		}
		return tx.Model(&models.Delivery{}).Where("id = ?", d.ID).Updates(set).Error
	})
}

// Redeliver makes a delivery due again at that time, whatever became of it.
func (s *Store) Redeliver(ctx context.Context, id string, at time.Time) error {
	return s.write(ctx, "redeliver", "delivery", func(tx *gorm.DB) error {
		return one(tx.Model(&models.Delivery{}).Where("id = ?", id).
			Updates(map[string]any{"state": models.DeliveryPending, "next_at": at, "done_at": nil}), "delivery")
	})
}

// Delivery reads one delivery.
func (s *Store) Delivery(ctx context.Context, id string) (models.Delivery, error) {
	return take[models.Delivery](s.read(ctx).Where("id = ?", id), "delivery")
}

// DeliveriesOf reads a job's deliveries, oldest first.
func (s *Store) DeliveriesOf(ctx context.Context, jobID string) ([]models.Delivery, error) {
	list := []models.Delivery{}
	err := s.read(ctx).Where("job_id = ?", jobID).Order("created_at, id").Find(&list).Error
	return list, translate(err, "read deliveries", "delivery")
}

// Deliveries reads a tenant's deliveries, newest first, at most limit of them, of all tenants for ""; before is the id
// of the last one of the page before, "" for the first page.
func (s *Store) Deliveries(ctx context.Context, tenantID, before string, limit int) ([]models.Delivery, error) {
	list := []models.Delivery{}
	err := s.readTogether(ctx, func(tx *gorm.DB) error {
		q := tx.Order("created_at DESC, id DESC").Limit(limit)
		if tenantID != "" {
			q = q.Where("tenant_id = ?", tenantID)
		}
		if before != "" {
			last, err := take[models.Delivery](tx.Where("id = ?", before), "delivery")
			if err != nil {
				return err
			}
			q = q.Where("(created_at, id) < (?, ?)", last.CreatedAt, last.ID)
		}
		return q.Find(&list).Error
	})
	return list, translate(err, "read deliveries", "delivery")
}

// DeliveryAttempts reads the tries of a delivery, oldest first.
func (s *Store) DeliveryAttempts(ctx context.Context, id string) ([]models.DeliveryAttempt, error) {
	list := []models.DeliveryAttempt{}
	err := s.read(ctx).Where("delivery_id = ?", id).Order("number").Find(&list).Error
	return list, translate(err, "read delivery attempts", "delivery")
}

// addDelivery writes the webhook of a job that just ended, unless it asked for none or its tenant's are disabled.
func (s *Store) addDelivery(tx *gorm.DB, job models.Job, at time.Time) error {
	if job.WebhookURL == "" {
		return nil
	}
	tenant, err := take[models.Tenant](tx.Where("id = ?", job.TenantID), "tenant")
	if err != nil || tenant.WebhooksDisabledAt != nil {
		return err
	}
	event := models.WebhookEvent(job.State)
	return tx.Create(&models.Delivery{ID: "msg_" + s.newID(), TenantID: job.TenantID, JobID: job.ID, Event: event,
		URL: job.WebhookURL, Payload: models.WebhookPayload(event, job.ID, at), State: models.DeliveryPending,
		NextAt: &at, CreatedAt: at}).Error
}
