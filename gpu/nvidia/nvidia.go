// Package nvidia reads the NVIDIA cards of this machine through NVML, the driver's own library: which there are, and
// how they are. It changes nothing on them.
//
// The library is loaded when Open is called; a machine without it is ErrNoDriver, and the caller says "no telemetry".
package nvidia

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/NVIDIA/go-nvml/pkg/nvml"

	"comfyfleet/models"
)

// ErrNoDriver says that this machine has no NVIDIA driver, or that it is not loaded.
var ErrNoDriver = errors.New("no NVIDIA driver")

// faultsPerRead bounds how many waiting faults one Read takes: a card that fails reports them in floods.
const faultsPerRead = 64

// NVML is an open driver library. It is safe for concurrent use until Close.
type NVML struct {
	lib nvml.Interface
	now func() time.Time
	// events is nil where the driver reports no faults.
	events nvml.EventSet
	// reservedApart says that the driver (510 and later) tells used memory from what it keeps for itself.
	reservedApart bool

	mu sync.Mutex
	// faults holds the last XID by card UUID.
	faults map[string]uint64
}

// Open loads the driver's library. ErrNoDriver when there is none.
func Open() (*NVML, error) { return open(nvml.New(), time.Now) }

func open(lib nvml.Interface, now func() time.Time) (*NVML, error) {
	switch ret := lib.Init(); ret {
	case nvml.SUCCESS:
	case nvml.ERROR_LIBRARY_NOT_FOUND, nvml.ERROR_DRIVER_NOT_LOADED:
		return nil, ErrNoDriver
	default:
		return nil, fmt.Errorf("open the NVIDIA driver: %w", ret)
	}
	n := &NVML{lib: lib, now: now, faults: map[string]uint64{}}
	// A call that the library lacks would end the whole program.
	n.reservedApart = lib.Extensions().LookupSymbol("nvmlDeviceGetMemoryInfo_v2") == nil
	n.watchFaults()
	return n, nil
}

// Close unloads the library.
func (n *NVML) Close() error {
	if n.events != nil {
		_ = n.events.Free()
	}
	if ret := n.lib.Shutdown(); ret != nvml.SUCCESS {
		return fmt.Errorf("close the NVIDIA driver: %w", ret)
	}
	return nil
}

// Cards lists the cards in the driver's order, which is that of their PCI addresses. A card that the driver cannot
// describe (it fell off the bus) is left out.
func (n *NVML) Cards() ([]models.Card, error) {
	count, ret := n.lib.DeviceGetCount()
	if ret != nvml.SUCCESS {
		return nil, fmt.Errorf("count the cards: %w", ret)
	}
	var cards []models.Card
	for i := range count {
		d, ret := n.lib.DeviceGetHandleByIndex(i)
		if ret != nvml.SUCCESS {
			continue
		}
		if c, ok := card(d, i); ok {
			cards = append(cards, c)
		}
	}
	return cards, nil
}

// card describes a device; without a UUID it could not be given to a worker.
func card(d nvml.Device, index int) (models.Card, bool) {
	uuid, ret := d.GetUUID()
	if ret != nvml.SUCCESS || uuid == "" {
		return models.Card{}, false
	}
	c := models.Card{Index: index, UUID: uuid}
	if name, ret := d.GetName(); ret == nvml.SUCCESS {
		c.Name = name
	}
	if pci, ret := d.GetPciInfo(); ret == nvml.SUCCESS {
		c.PCI = fmt.Sprintf("%08x:%02x:%02x.0", pci.Domain, pci.Bus, pci.Device)
	}
	if m, ret := d.GetMemoryInfo(); ret == nvml.SUCCESS {
		c.MemoryTotal = int64(m.Total)
	}
	return c, true
}

// watchFaults registers for XID errors of all cards, where the driver and the card know them.
func (n *NVML) watchFaults() {
	set, ret := n.lib.EventSetCreate()
	if ret != nvml.SUCCESS {
		return
	}
	count, _ := n.lib.DeviceGetCount()
	registered := false
	for i := range count {
		d, ret := n.lib.DeviceGetHandleByIndex(i)
		if ret == nvml.SUCCESS && d.RegisterEvents(nvml.EventTypeXidCriticalError, set) == nvml.SUCCESS {
			registered = true
		}
	}
	if !registered {
		_ = set.Free()
		return
	}
	n.events = set
}
