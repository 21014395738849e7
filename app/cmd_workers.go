package main

import (
	"fmt"

	"comfyfleet/models"
)

type workersCmd struct {
	List    workerListCmd    `cmd:"" default:"1" help:"List the workers of the running server."`
	Drain   workerDrainCmd   `cmd:"" help:"Finish what it has and take nothing new."`
	Resume  workerResumeCmd  `cmd:"" help:"Take jobs again after a drain."`
	Restart workerRestartCmd `cmd:"" help:"Restart its process; its job runs again."`
	Free    workerFreeCmd    `cmd:"" help:"Unload its models."`
	Disable workerDisableCmd `cmd:"" help:"Stop it and keep it stopped."`
	Enable  workerEnableCmd  `cmd:"" help:"Use it again after disable."`
	Clear   workerClearCmd   `cmd:"" help:"Take it out of quarantine."`
	Logs    workerLogsCmd    `cmd:"" help:"Print the end of its log."`
}

// namedWorker is the argument of every verb on one worker.
type namedWorker struct {
	Worker string `arg:"" help:"Its name, or its number in the list."`
}

type (
	workerDrainCmd   struct{ namedWorker }
	workerResumeCmd  struct{ namedWorker }
	workerRestartCmd struct{ namedWorker }
	workerFreeCmd    struct{ namedWorker }
	workerDisableCmd struct{ namedWorker }
	workerEnableCmd  struct{ namedWorker }
	workerClearCmd   struct{ namedWorker }
)

func (c *workerDrainCmd) Run(s *session) error   { return s.worker(c.Worker, "drain") }
func (c *workerResumeCmd) Run(s *session) error  { return s.worker(c.Worker, "resume") }
func (c *workerRestartCmd) Run(s *session) error { return s.worker(c.Worker, "restart") }
func (c *workerFreeCmd) Run(s *session) error    { return s.worker(c.Worker, "free") }
func (c *workerDisableCmd) Run(s *session) error { return s.worker(c.Worker, "disable") }
func (c *workerEnableCmd) Run(s *session) error  { return s.worker(c.Worker, "enable") }
func (c *workerClearCmd) Run(s *session) error   { return s.worker(c.Worker, "clear") }

func (s *session) worker(name, verb string) error {
	var w models.Worker
	if err := s.act("workers.act", workerArgs{Name: name, Verb: verb}, &w); err != nil {
		return err
	}
	return s.showWorkers([]models.Worker{w})
}

type workerListCmd struct{}

func (c *workerListCmd) Run(s *session) error {
	var workers []models.Worker
	if err := s.act("workers.list", workerArgs{}, &workers); err != nil {
		return err
	}
	return s.showWorkers(workers)
}

func (s *session) showWorkers(workers []models.Worker) error {
	return s.show(workers, "NAME KIND STATE JOB PID DONE RESTARTS REASON", func(add func(...any)) {
		for _, w := range workers {
			add(w.Name, w.Kind, w.State, w.ExecutingJobID, w.PID, w.JobsDone, w.Restarts, w.Reason)
		}
	})
}

type workerLogsCmd struct {
	namedWorker
	Lines int `short:"n" default:"100" help:"How many lines."`
}

func (c *workerLogsCmd) Run(s *session) error {
	var lines []string
	if err := s.act("workers.logs", workerArgs{Name: c.Worker, Lines: c.Lines}, &lines); err != nil {
		return err
	}
	if s.asJSON {
		return s.show(lines, "", nil)
	}
	for _, l := range lines {
		fmt.Fprintln(s.stdout, l)
	}
	return nil
}
