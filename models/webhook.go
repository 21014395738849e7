package models

import "time"

// DeliveryState is where a webhook delivery stands.
type DeliveryState string

const (
	DeliveryPending   DeliveryState = "pending"
	DeliveryDelivered DeliveryState = "delivered"
	DeliveryFailed    DeliveryState = "failed" // gave up, or the endpoint is disabled
)

// Delivery is one webhook message to one endpoint, written in the transaction that made it true.
type Delivery struct {
	// ID is the message id ("msg_…"), the same for every attempt.
	ID       string `gorm:"primaryKey"`
	TenantID string
	JobID    string
	// Event is "job.completed" or "job.failed".
	Event string
	URL   string
	// Payload is the exact body.
	Payload   []byte
	State     DeliveryState
	Attempts  int
	NextAt    *time.Time // when the next attempt is due; nil when final
	CreatedAt time.Time
	DoneAt    *time.Time
}

// DeliveryAttempt is one try of a delivery.
type DeliveryAttempt struct {
	DeliveryID string `gorm:"primaryKey"`
	Number     int    `gorm:"primaryKey"`
	At         time.Time
	// Status is the HTTP status, 0 when none came.
	Status    int
	LatencyMS int64
	// Error is why it failed, "" when it did not.
	Error string
	// Answer is the first 4 kB of the answer's body.
	Answer []byte
}
