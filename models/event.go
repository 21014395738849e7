package models

import "time"

// Event is one stored step in a job's life. Rev counts from 1 within the job, without gaps, and never goes back.
type Event struct {
	JobID string `gorm:"primaryKey"`
	Rev   int64  `gorm:"primaryKey"`
	At    time.Time
	// State and Phase are the job's after the event.
	State JobState
	Phase Phase
	// Kind is one of the Event kinds.
	Kind      string
	AttemptID string
	Worker    string
	Percent   int
	// Message is plain words for the job page.
	Message string
}

// Kinds of events.
const (
	EventAccepted   = "accepted"
	EventClaimed    = "claimed"
	EventStaged     = "staged"
	EventStarted    = "started"
	EventCollecting = "collecting"
	EventRequeued   = "requeued"
	EventTakenBack  = "taken_back"
	EventPriority   = "priority"
	EventSucceeded  = "succeeded"
	EventFailed     = "failed"
	EventCanceled   = "canceled"
	EventExpired    = "expired"
)
