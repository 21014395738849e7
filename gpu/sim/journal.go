package sim

import (
	"encoding/json"
	"fmt"
	"os"
	"sync"
	"time"
)

// JournalEntry is one line of the journal.
type JournalEntry struct {
	At       time.Time `json:"t"`
	PID      int       `json:"pid"`
	Event    string    `json:"event"` // start, cached, end, interrupted, error
	PromptID string    `json:"prompt_id"`
	ClientID string    `json:"client_id,omitempty"`
	Node     string    `json:"node,omitempty"` // of interrupted and error
	Detail   string    `json:"detail,omitempty"`
	Nodes    []string  `json:"nodes,omitempty"` // of cached
}

// journal appends entries to a file, one write each, so that lines of a killed process stay whole.
type journal struct {
	mu   sync.Mutex
	file *os.File
}

func openJournal(path string) (*journal, error) {
	if path == "" {
		return &journal{}, nil
	}
	f, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, fmt.Errorf("journal: %w", err)
	}
	return &journal{file: f}, nil
}

func (j *journal) write(e JournalEntry) error {
	if j.file == nil {
		return nil
	}
	e.At, e.PID = time.Now().UTC(), os.Getpid()
	line, err := json.Marshal(e)
	if err != nil {
		return fmt.Errorf("journal: %w", err)
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if _, err := j.file.Write(append(line, '\n')); err != nil {
		return fmt.Errorf("journal: %w", err)
	}
	return nil
}

func (j *journal) close() error {
	if j.file == nil {
		return nil
	}
	return j.file.Close()
}
