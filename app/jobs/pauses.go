package jobs

import (
	"context"
	"encoding/json"
	"fmt"
)

// settingPauses is the stored setting that holds Pauses as JSON.
const settingPauses = "pauses"

// Pauses are the operator's switches; they outlive the server.
type Pauses struct {
	// Intake refuses new jobs. Dispatch leaves waiting jobs waiting; what runs goes on.
	Intake   bool `json:"intake"`
	Dispatch bool `json:"dispatch"`
}

// Paused reads the switches.
func (s *Service) Paused() Pauses { return *s.pauses.Load() }

// SetPaused writes them. While intake is paused Submit answers CodeUnavailable "intake_paused".
func (s *Service) SetPaused(ctx context.Context, p Pauses) error {
	b, err := json.Marshal(p)
	if err != nil {
		return fmt.Errorf("encode pauses: %w", err)
	}
	if err := s.Store.SetSetting(ctx, settingPauses, string(b)); err != nil {
		return err
	}
	s.pauses.Store(&p)
	s.Wake()
	return nil
}

func (s *Service) loadPauses(ctx context.Context) error {
	v, ok, err := s.Store.Setting(ctx, settingPauses)
	if err != nil || !ok {
		return err
	}
	var p Pauses
	if err := json.Unmarshal([]byte(v), &p); err != nil {
		return fmt.Errorf("stored setting %s: %w", settingPauses, err)
	}
	s.pauses.Store(&p)
	return nil
}
