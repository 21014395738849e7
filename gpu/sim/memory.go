package sim

import (
	"hash/fnv"
	"path"
	"slices"
	"strings"
	"sync"
)

// memory is the pretended card: which model files are resident. The least recently used make room.
type memory struct {
	mu    sync.Mutex
	total int64
	used  int64
	list  []*model // least recently used first
}

// model is a loaded model file; nodes pass it along links.
type model struct {
	name  string // folder/name
	size  int64
	loads int
}

func newMemory(total int64) *memory { return &memory{total: total} }

// need makes a model resident and says whether it had to be loaded.
func (m *memory) need(want *model) (loaded bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if i := slices.IndexFunc(m.list, func(have *model) bool { return have.name == want.name }); i >= 0 {
		have := m.list[i]
		m.list = append(slices.Delete(m.list, i, i+1), have)
		return false
	}
	for m.used+want.size > m.total && len(m.list) > 0 {
		m.used -= m.list[0].size
		m.list = m.list[1:]
	}
	m.list, m.used = append(m.list, want), m.used+want.size
	want.loads++
	return true
}

// clear unloads everything.
func (m *memory) clear() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.list, m.used = nil, 0
}

// free is the unused memory in bytes.
func (m *memory) free() int64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return max(0, m.total-m.used)
}

// newModel guesses a size from the folder and the name, the same for the same file.
func newModel(folder, name string) *model {
	h := fnv.New32a()
	_, _ = h.Write([]byte(name))
	spread := int64(h.Sum32()%512) << 20 // up to half a GiB
	low := strings.ToLower(path.Base(name))
	var size int64
	switch folder {
	case "diffusion_models":
		size = 12 << 30
		if strings.Contains(low, "14b") {
			size = 14 << 30
		}
	case "checkpoints", "text_encoders":
		size = 6 << 30
	case "clip_vision", "controlnet":
		size = 1 << 30
	case "loras":
		size = 300 << 20
	default:
		size = 250 << 20
	}
	return &model{name: folder + "/" + name, size: size + spread}
}
