package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/kballard/go-shellquote"

	"comfyfleet/app/config"
	"comfyfleet/gpu"
	"comfyfleet/gpu/comfy"
	"comfyfleet/gpu/nvidia"
	"comfyfleet/models"
	"comfyfleet/models/store"
)

// words splits a setting as a shell would, so that quotes hold a word with spaces together.
func words(name, variable, value string) ([]string, error) {
	list, err := shellquote.Split(value)
	if err != nil {
		return nil, fmt.Errorf("%s (%s): %w in %s", name, variable, err, value)
	}
	return list, nil
}

// fleetConfig turns settings into the fleet's. closeCards gives the driver back.
func fleetConfig(s *config.Settings, log *slog.Logger) (cfg gpu.Config, closeCards func(), err error) {
	self, err := os.Executable()
	if err != nil {
		return cfg, nil, fmt.Errorf("find our own program: %w", err)
	}
	comfyArgs, err := words("comfyui-args", "COMFYFLEET_COMFYUI_ARGS", s.ComfyUIArgs)
	if err != nil {
		return cfg, nil, err
	}
	simArgs, err := words("sim-args", "COMFYFLEET_SIM_ARGS", s.SimArgs)
	if err != nil {
		return cfg, nil, err
	}
	cfg = gpu.Config{
		DataDir: s.DataDir,
		ComfyUI: gpu.ComfyUI{Dir: s.ComfyUIDir, Python: s.ComfyUIPython, Args: comfyArgs, ModelsDir: s.ModelsDir},
		SimArgv: []string{self, "sim"}, SimArgs: simArgs,
		Shim:       []string{self, "run-worker"},
		NewEngine:  func(url string) gpu.Engine { return comfy.New(url, comfy.Options{}) },
		OnShutdown: gpu.OnShutdown(s.OnShutdown), ShutdownGrace: s.ShutdownGrace,
		StartTimeout: s.StartTimeout, StallAfter: s.StallAfter, FreeAfter: s.FreeAfter,
		RecycleRSS: int64(s.RecycleRSS), RecycleJobs: s.RecycleJobs, Previews: true, Log: log, Now: now,
	}
	if venv := filepath.Join(s.ComfyUIDir, "venv", "bin", "python"); cfg.ComfyUI.Python == "" && s.ComfyUIDir != "" && isFile(venv) {
		cfg.ComfyUI.Python = venv
	}
	machine := gpu.Machine{ComfyUI: s.ComfyUIDir != ""}
	closeCards = func() {}
	driver, err := nvidia.Open()
	switch {
	case errors.Is(err, nvidia.ErrNoDriver):
		log.Info("no NVIDIA driver: no telemetry")
	case err != nil:
		return cfg, nil, fmt.Errorf("NVIDIA driver: %w", err)
	default:
		cfg.Cards = driver
		closeCards = func() { driver.Close() }
		cards, err := driver.Cards()
		if err != nil {
			closeCards()
			return cfg, nil, fmt.Errorf("NVIDIA cards: %w", err)
		}
		for _, c := range cards {
			machine.Cards = append(machine.Cards, c.Index)
		}
	}
	if cfg.Workers, err = gpu.ParseWorkers(s.Workers, machine); err != nil {
		closeCards()
		return cfg, nil, err
	}
	return cfg, closeCards, nil
}

func isFile(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular()
}

// describeFleet logs what will run, and what an owner should know of it.
func describeFleet(workers []gpu.Spec, log *slog.Logger) {
	kinds := map[models.WorkerKind]int{}
	for _, w := range workers {
		kinds[w.Kind]++
	}
	if kinds[models.WorkerSimulated] > 0 {
		log.Warn("simulated workers make no real pictures; every result of theirs says so", "workers", kinds[models.WorkerSimulated])
	}
	if kinds[models.WorkerAttached] > 0 {
		log.Warn("attached workers are somebody else's processes: they are never restarted, and media staged on them stays", "workers", kinds[models.WorkerAttached])
	}
}

// workerRecords keeps the fleet's records in the store.
type workerRecords struct{ store *store.Store }

func (w workerRecords) Load(ctx context.Context) ([]models.WorkerRecord, error) {
	return w.store.WorkerRecords(ctx)
}

func (w workerRecords) Save(ctx context.Context, r models.WorkerRecord) error {
	return w.store.SaveWorkerRecord(ctx, r)
}
