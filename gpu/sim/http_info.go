package sim

import (
	"net/http"
	"runtime"
	"slices"
)

// features is what GET /features and the socket's feature_flags say.
func (s *Server) features() ordered {
	return ordered{{"supports_preview_metadata", true}, {"supports_model_type_tags", true}, {"max_upload_size", s.opts.MaxUpload},
		{"extension", map[string]any{"manager": map[string]bool{"supports_v4": true}}}, {"node_replacements", true}, {"assets", false}}
}

// getObjectInfo is GET /object_info.
func (s *Server) getObjectInfo(w http.ResponseWriter, _ *http.Request) {
	reply(w, http.StatusOK, s.definitions(s.classes.names()))
}

// getObjectInfoOf is GET /object_info/{class}: an unknown class is {}.
func (s *Server) getObjectInfoOf(w http.ResponseWriter, r *http.Request) {
	reply(w, http.StatusOK, s.definitions([]string{r.PathValue("class")}))
}

// getSystemStats is GET /system_stats. The last field of system is ours: it tells our client what it talks to.
func (s *Server) getSystemStats(w http.ResponseWriter, _ *http.Request) {
	var mem runtime.MemStats
	runtime.ReadMemStats(&mem)
	const ram = 64 << 30
	free := s.memory.free()
	argv := s.opts.Args
	if argv == nil {
		argv = []string{}
	}
	reply(w, http.StatusOK, ordered{
		{"system", ordered{{"os", runtime.GOOS}, {"ram_total", int64(ram)}, {"ram_free", int64(ram) - int64(mem.Sys)}, {"comfyui_version", Version},
			{"required_frontend_version", "1.49.6"}, {"python_version", "none (" + runtime.Version() + ")"}, {"pytorch_version", "none"},
			{"embedded_python", false}, {"argv", argv}, {"comfyfleet_simulator", true}}},
		{"devices", []ordered{{{"name", "cuda:0 simulated NVIDIA L40S"}, {"type", "cuda"}, {"index", 0}, {"vram_total", s.opts.VRAM}, {"vram_free", free},
			{"torch_vram_total", s.opts.VRAM - free}, {"torch_vram_free", 0}}}},
	})
}

// getModels is GET /models/{folder}.
func (s *Server) getModels(w http.ResponseWriter, r *http.Request) {
	folder := r.PathValue("folder")
	if !slices.Contains(modelFolders(), folder) {
		w.WriteHeader(http.StatusNotFound)
		return
	}
	names := s.modelFiles(folder)
	if names == nil {
		names = []string{}
	}
	reply(w, http.StatusOK, names)
}
