package nvidia

import (
	"errors"
	"testing"
	"time"

	"github.com/NVIDIA/go-nvml/pkg/nvml"
	"github.com/NVIDIA/go-nvml/pkg/nvml/mock"
	"github.com/NVIDIA/go-nvml/pkg/nvml/mock/dgxa100"
	"github.com/stretchr/testify/require"

	"comfyfleet/models"
)

var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// host is a mocked machine whose first card is described in full.
type host struct {
	*dgxa100.Server
	// reports are the faults that wait, oldest first.
	reports []nvml.EventData
	freed   int
}

func newHost() *host {
	h := &host{Server: dgxa100.New()}
	set := &mock.EventSet{
		WaitFunc: func(uint32) (nvml.EventData, nvml.Return) {
			if len(h.reports) == 0 {
				return nvml.EventData{}, nvml.ERROR_TIMEOUT
			}
			e := h.reports[0]
			h.reports = h.reports[1:]
			return e, nvml.SUCCESS
		},
		FreeFunc: func() nvml.Return { h.freed++; return nvml.SUCCESS },
	}
	h.ExtensionsFunc = func() nvml.ExtendedInterface {
		return &mock.ExtendedInterface{LookupSymbolFunc: func(string) error { return nil }}
	}
	h.EventSetCreateFunc = func() (nvml.EventSet, nvml.Return) { return set, nvml.SUCCESS }
	for i := range h.Devices {
		describe(h.card(i))
	}
	return h
}

func (h *host) card(i int) *dgxa100.Device { return h.Devices[i].(*dgxa100.Device) }

func describe(d *dgxa100.Device) {
	d.RegisterEventsFunc = func(uint64, nvml.EventSet) nvml.Return { return nvml.SUCCESS }
	d.GetPciInfoFunc = func() (nvml.PciInfo, nvml.Return) {
		return nvml.PciInfo{Domain: 0, Bus: 0x3b, Device: 0}, nvml.SUCCESS
	}
	d.GetMemoryInfoFunc = func() (nvml.Memory, nvml.Return) {
		return nvml.Memory{Total: 48 << 30, Used: 21 << 30}, nvml.SUCCESS
	}
	d.GetMemoryInfo_v2Func = func() (nvml.Memory_v2, nvml.Return) {
		return nvml.Memory_v2{Total: 48 << 30, Used: 20 << 30, Reserved: 1 << 30}, nvml.SUCCESS
	}
	d.GetUtilizationRatesFunc = func() (nvml.Utilization, nvml.Return) {
		return nvml.Utilization{Gpu: 97, Memory: 41}, nvml.SUCCESS
	}
	d.GetTemperatureFunc = func(nvml.TemperatureSensors) (uint32, nvml.Return) { return 66, nvml.SUCCESS }
	d.GetPowerUsageFunc = func() (uint32, nvml.Return) { return 287500, nvml.SUCCESS }
	d.GetEnforcedPowerLimitFunc = func() (uint32, nvml.Return) { return 350000, nvml.SUCCESS }
	d.GetClockInfoFunc = func(c nvml.ClockType) (uint32, nvml.Return) {
		return map[nvml.ClockType]uint32{nvml.CLOCK_SM: 2520, nvml.CLOCK_MEM: 9001}[c], nvml.SUCCESS
	}
	d.GetTotalEccErrorsFunc = func(e nvml.MemoryErrorType, c nvml.EccCounterType) (uint64, nvml.Return) {
		if e == nvml.MEMORY_ERROR_TYPE_UNCORRECTED && c == nvml.VOLATILE_ECC {
			return 2, nvml.SUCCESS
		}
		return 99, nvml.SUCCESS
	}
}

func mustOpen(t *testing.T, h *host) *NVML {
	t.Helper()
	n, err := open(h, func() time.Time { return noon })
	require.NoError(t, err)
	return n
}

func TestCardsAreListedInTheDriversOrder(t *testing.T) {
	h := newHost()
	h.card(3).GetUUIDFunc = func() (string, nvml.Return) { return "", nvml.ERROR_GPU_IS_LOST }
	h.card(4).GetNameFunc = func() (string, nvml.Return) { return "", nvml.ERROR_NOT_SUPPORTED }
	cards, err := mustOpen(t, h).Cards()
	require.NoError(t, err)
	require.Len(t, cards, 7, "a card that fell off the bus is left out")
	require.Equal(t, models.Card{Index: 0, UUID: h.card(0).UUID, Name: h.card(0).Config.Name, PCI: "00000000:3b:00.0",
		MemoryTotal: 48 << 30}, cards[0])
	require.Equal(t, 4, cards[3].Index)
	require.Empty(t, cards[3].Name)
}

func TestAReadingHasEverything(t *testing.T) {
	h := newHost()
	got, err := mustOpen(t, h).Read(h.card(1).UUID)
	require.NoError(t, err)
	require.Equal(t, models.Telemetry{At: noon, GPUUtil: 97, MemUtil: 41, MemoryUsed: 20 << 30, Temperature: 66,
		Power: 287.5, PowerLimit: 350, ClockSM: 2520, ClockMem: 9001, ECCErrors: 2}, got)
}

func TestWhatACardDoesNotSupportStaysZero(t *testing.T) {
	h := newHost()
	d := h.card(0)
	d.GetUtilizationRatesFunc = func() (nvml.Utilization, nvml.Return) {
		return nvml.Utilization{Gpu: 55}, nvml.ERROR_NOT_SUPPORTED
	}
	d.GetMemoryInfo_v2Func = func() (nvml.Memory_v2, nvml.Return) {
		return nvml.Memory_v2{Used: 5}, nvml.ERROR_NOT_SUPPORTED
	}
	d.GetMemoryInfoFunc = func() (nvml.Memory, nvml.Return) { return nvml.Memory{Used: 5}, nvml.ERROR_UNKNOWN }
	d.GetTemperatureFunc = func(nvml.TemperatureSensors) (uint32, nvml.Return) { return 5, nvml.ERROR_NOT_SUPPORTED }
	d.GetPowerUsageFunc = func() (uint32, nvml.Return) { return 5, nvml.ERROR_NOT_SUPPORTED }
	d.GetEnforcedPowerLimitFunc = func() (uint32, nvml.Return) { return 5, nvml.ERROR_NOT_SUPPORTED }
	d.GetClockInfoFunc = func(nvml.ClockType) (uint32, nvml.Return) { return 5, nvml.ERROR_NOT_SUPPORTED }
	d.GetTotalEccErrorsFunc = func(nvml.MemoryErrorType, nvml.EccCounterType) (uint64, nvml.Return) {
		return 5, nvml.ERROR_NOT_SUPPORTED
	}
	got, err := mustOpen(t, h).Read(d.UUID)
	require.NoError(t, err)
	require.Equal(t, models.Telemetry{At: noon}, got)
}

func TestADriverThatDoesNotTellReservedMemoryApartIsAskedTheOldWay(t *testing.T) {
	old, refuses := newHost(), newHost()
	old.ExtensionsFunc = func() nvml.ExtendedInterface {
		return &mock.ExtendedInterface{LookupSymbolFunc: func(string) error { return errors.New("undefined symbol") }}
	}
	refuses.card(0).GetMemoryInfo_v2Func = func() (nvml.Memory_v2, nvml.Return) {
		return nvml.Memory_v2{}, nvml.ERROR_ARGUMENT_VERSION_MISMATCH
	}
	for name, h := range map[string]*host{"no such call": old, "call refused": refuses} {
		got, err := mustOpen(t, h).Read(h.card(0).UUID)
		require.NoError(t, err, name)
		require.EqualValues(t, 21<<30, got.MemoryUsed, name)
	}
}

func TestALostCardIsAnError(t *testing.T) {
	h := newHost()
	h.card(0).GetPowerUsageFunc = func() (uint32, nvml.Return) { return 0, nvml.ERROR_GPU_IS_LOST }
	n := mustOpen(t, h)
	_, err := n.Read(h.card(0).UUID)
	require.ErrorIs(t, err, nvml.ERROR_GPU_IS_LOST)
	_, err = n.Read("GPU-unknown")
	require.ErrorContains(t, err, "GPU-unknown")
}

func TestTheLastFaultOfACardIsKept(t *testing.T) {
	h := newHost()
	n := mustOpen(t, h)
	xid := func(card int, code uint64) nvml.EventData {
		return nvml.EventData{Device: h.card(card), EventType: nvml.EventTypeXidCriticalError, EventData: code}
	}
	h.reports = []nvml.EventData{xid(0, 13), xid(1, 31), xid(0, 79), {EventType: nvml.EventTypeXidCriticalError}}
	for card, want := range map[int]uint64{0: 79, 1: 31, 2: 0} {
		for range 2 {
			got, err := n.Read(h.card(card).UUID)
			require.NoError(t, err)
			require.Equal(t, want, got.XID, "card %d", card)
		}
	}
	require.NoError(t, n.Close())
	require.Equal(t, 1, h.freed)
}

func TestADriverThatReportsNoFaultsIsFine(t *testing.T) {
	h := newHost()
	for i := range h.Devices {
		h.card(i).RegisterEventsFunc = func(uint64, nvml.EventSet) nvml.Return { return nvml.ERROR_NOT_SUPPORTED }
	}
	n := mustOpen(t, h)
	_, err := n.Read(h.card(0).UUID)
	require.NoError(t, err)
	require.NoError(t, n.Close())
	require.Equal(t, 1, h.freed, "the unused event set was given back, once")

	h.EventSetCreateFunc = func() (nvml.EventSet, nvml.Return) { return nil, nvml.ERROR_NOT_SUPPORTED }
	_, err = mustOpen(t, h).Read(h.card(0).UUID)
	require.NoError(t, err)
}

func TestAMachineWithoutDriverSaysSo(t *testing.T) {
	for ret, none := range map[nvml.Return]bool{nvml.ERROR_LIBRARY_NOT_FOUND: true, nvml.ERROR_DRIVER_NOT_LOADED: true,
		nvml.ERROR_NO_PERMISSION: false} {
		h := newHost()
		h.InitFunc = func() nvml.Return { return ret }
		_, err := open(h, time.Now)
		require.Error(t, err)
		require.Equal(t, none, errors.Is(err, ErrNoDriver))
	}
}

func TestTheRealLibraryOpensOrSaysThatThereIsNone(t *testing.T) {
	n, err := Open()
	if errors.Is(err, ErrNoDriver) {
		return
	}
	require.NoError(t, err)
	cards, err := n.Cards()
	require.NoError(t, err)
	for _, c := range cards {
		_, err := n.Read(c.UUID)
		require.NoError(t, err)
	}
	require.NoError(t, n.Close())
}
