package gpu

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"comfyfleet/models"
)

const (
	// maxSimulated bounds sim:N: each is a process of its own.
	maxSimulated = 64
	// autoSimulated is how many stand-ins "auto" runs on a machine with neither a card nor a ComfyUI.
	autoSimulated = 2
)

// Spec is one worker as the setting names it.
type Spec struct {
	Name string
	Kind models.WorkerKind
	// Index is the card of a managed worker.
	Index int
	// URL is set for attached workers, without a trailing slash.
	URL string
}

// local reports whether the worker's process and files are on this machine and ours.
func (s Spec) local() bool { return s.Kind != models.WorkerAttached }

// Machine is what "auto" looks at.
type Machine struct {
	// Cards are the indexes of the NVIDIA cards.
	Cards []int
	// ComfyUI says that a ComfyUI directory is configured.
	ComfyUI bool
}

// ParseWorkers reads the workers setting: "auto", or kinds separated by ";": "managed:0,1", "attached:http://host:8188,…",
// "sim:4". Errors name the item. With auto, half a configuration (a card without ComfyUI, or the reverse) is an error:
// it must never end in simulated pictures for a paying tenant.
func ParseWorkers(setting string, m Machine) ([]Spec, error) {
	setting = strings.TrimSpace(setting)
	if setting == "" || setting == "auto" {
		return autoWorkers(m)
	}
	var specs []Spec
	for item := range strings.SplitSeq(setting, ";") {
		item = strings.TrimSpace(item)
		if item == "" {
			continue
		}
		more, err := parseItem(item, specs, m)
		if err != nil {
			return nil, fmt.Errorf("workers: %q: %w", item, err)
		}
		specs = append(specs, more...)
	}
	if len(specs) == 0 {
		return nil, fmt.Errorf("workers: %q names no worker", setting)
	}
	return specs, nil
}

func autoWorkers(m Machine) ([]Spec, error) {
	switch {
	case len(m.Cards) > 0 && m.ComfyUI:
		specs := make([]Spec, 0, len(m.Cards))
		for _, i := range m.Cards {
			specs = append(specs, managed(i))
		}
		return specs, nil
	case len(m.Cards) > 0:
		return nil, errors.New("workers: auto found a card, but no ComfyUI directory is set; set comfyui-dir (COMFYFLEET_COMFYUI_DIR), or ask for sim:2 in so many words")
	case m.ComfyUI:
		return nil, errors.New("workers: auto found a ComfyUI directory, but no NVIDIA card; check the driver, or name the workers (managed:0)")
	}
	return simulated(0, autoSimulated), nil
}

func parseItem(item string, before []Spec, m Machine) ([]Spec, error) {
	kind, rest, _ := strings.Cut(item, ":")
	switch kind {
	case "managed":
		if !m.ComfyUI {
			return nil, errors.New("managed workers need a ComfyUI directory: set comfyui-dir (COMFYFLEET_COMFYUI_DIR)")
		}
		return parseManaged(rest, before, m)
	case "attached":
		return parseAttached(rest, before)
	case "sim":
		n, err := strconv.Atoi(strings.TrimSpace(rest))
		if err != nil || n < 1 || n > maxSimulated {
			return nil, fmt.Errorf("want sim:N with N from 1 to %d", maxSimulated)
		}
		return simulated(count(before, models.WorkerSimulated), n), nil
	case "auto":
		return nil, errors.New("auto stands alone")
	}
	return nil, errors.New("want managed:…, attached:… or sim:N")
}

func parseManaged(list string, before []Spec, m Machine) (specs []Spec, err error) {
	for text := range strings.SplitSeq(list, ",") {
		i, err := strconv.Atoi(strings.TrimSpace(text))
		if err != nil || i < 0 {
			return nil, fmt.Errorf("%q is no card number", text)
		}
		if len(m.Cards) > 0 && !slices.Contains(m.Cards, i) {
			return nil, fmt.Errorf("there is no card %d", i)
		}
		s := managed(i)
		if named(before, s.Name) || named(specs, s.Name) {
			return nil, fmt.Errorf("card %d is named twice", i)
		}
		specs = append(specs, s)
	}
	return specs, nil
}

func parseAttached(list string, before []Spec) (specs []Spec, err error) {
	n := count(before, models.WorkerAttached)
	for text := range strings.SplitSeq(list, ",") {
		u, err := url.Parse(strings.TrimSpace(text))
		if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" || u.RawQuery != "" || u.Fragment != "" {
			return nil, fmt.Errorf("%q is no address such as http://host:8188", text)
		}
		address := strings.TrimRight(u.String(), "/")
		same := func(s Spec) bool { return s.URL == address }
		if slices.ContainsFunc(before, same) || slices.ContainsFunc(specs, same) {
			return nil, fmt.Errorf("%s is named twice", address)
		}
		specs = append(specs, Spec{Name: "attached" + strconv.Itoa(n+len(specs)), Kind: models.WorkerAttached, URL: address})
	}
	return specs, nil
}

func managed(card int) Spec {
	return Spec{Name: "gpu" + strconv.Itoa(card), Kind: models.WorkerManaged, Index: card}
}

func simulated(first, n int) (specs []Spec) {
	for i := first; i < first+n; i++ {
		specs = append(specs, Spec{Name: "sim" + strconv.Itoa(i), Kind: models.WorkerSimulated})
	}
	return specs
}

func count(specs []Spec, k models.WorkerKind) (n int) {
	for _, s := range specs {
		if s.Kind == k {
			n++
		}
	}
	return n
}

func named(specs []Spec, name string) bool {
	return slices.ContainsFunc(specs, func(s Spec) bool { return s.Name == name })
}
