package models

import "time"

// JobFilter chooses jobs for a list. Zero values do not filter.
type JobFilter struct {
	TenantID     string
	States       []JobState
	WorkflowSlug string
	Worker       string
	ErrorCode    string
	// IDPrefix matches the beginning of the job id.
	IDPrefix      string
	CreatedAfter  *time.Time
	CreatedBefore *time.Time
}

// Page asks for one page of a list, newest first.
type Page struct {
	// Limit is 1 to 1000 rows.
	Limit int
	// Before continues after the row with this Seq; 0 for the first page.
	Before int64
	// After asks for rows newer than this Seq instead; 0 for none.
	After int64
}

// JobPage is one page of jobs, newest first.
type JobPage struct {
	Jobs []Job
	// Next is the Seq to pass as Before for the next page, 0 when there is none.
	Next int64
}

// CountCap is where counts for tabs stop: "1000+".
const CountCap = 1000
