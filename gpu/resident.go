package gpu

import (
	"os"
	"path/filepath"
	"slices"

	"comfyfleet/models"
)

// remember puts model files that a prompt named to the front of those that are probably in memory.
func remember(list []models.ResidentModel, used []models.ResidentModel) []models.ResidentModel {
	for _, r := range slices.Backward(used) {
		list = slices.DeleteFunc(list, func(old models.ResidentModel) bool { return old.File == r.File })
		list = slices.Insert(list, 0, r)
	}
	return list[:min(len(list), maxResident)]
}

// measure says how big the model files of a managed worker are on disk; the size is 0 where that is not ours to see.
// It reads directories, which may be on a slow network: never call it in a worker's own goroutine.
func (w *worker) measure(files []string) (used []models.ResidentModel) {
	now := w.m.cfg.Now()
	for _, f := range files {
		r := models.ResidentModel{File: f, LastUsed: now}
		if w.spec.Kind == models.WorkerManaged {
			r.Size = w.m.cfg.ComfyUI.modelSize(f)
		}
		used = append(used, r)
	}
	return used
}

// modelSize looks for a model file where ComfyUI does; 0 when it is not there.
func (c ComfyUI) modelSize(file string) int64 {
	if !filepath.IsLocal(file) {
		return 0
	}
	for _, dir := range []string{c.ModelsDir, filepath.Join(c.Dir, "models")} {
		for _, folder := range modelFolders {
			if info, err := os.Stat(filepath.Join(dir, folder, file)); dir != "" && err == nil && info.Mode().IsRegular() {
				return info.Size()
			}
		}
	}
	return 0
}
