package nvidia

import (
	"fmt"

	"github.com/NVIDIA/go-nvml/pkg/nvml"

	"comfyfleet/models"
)

// Read takes one reading of a card. What the card does not support stays 0; an error says that the card is unknown or
// does not answer any more.
func (n *NVML) Read(uuid string) (models.Telemetry, error) {
	d, ret := n.lib.DeviceGetHandleByUUID(uuid)
	if ret != nvml.SUCCESS {
		return models.Telemetry{}, fmt.Errorf("find card %s: %w", uuid, ret)
	}
	t := models.Telemetry{At: n.now().UTC()}
	for _, fill := range []func(nvml.Device, *models.Telemetry) nvml.Return{
		utilization, n.memory, temperature, power, powerLimit, clockSM, clockMem, eccErrors,
	} {
		if ret := fill(d, &t); lost(ret) {
			return models.Telemetry{}, fmt.Errorf("read card %s: %w", uuid, ret)
		}
	}
	t.XID = n.fault(uuid)
	return t, nil
}

// lost tells a card or driver that is gone from a value that is not there.
func lost(ret nvml.Return) bool {
	switch ret {
	case nvml.ERROR_GPU_IS_LOST, nvml.ERROR_UNINITIALIZED, nvml.ERROR_RESET_REQUIRED:
		return true
	}
	return false
}

func utilization(d nvml.Device, t *models.Telemetry) nvml.Return {
	u, ret := d.GetUtilizationRates()
	if ret == nvml.SUCCESS {
		t.GPUUtil, t.MemUtil = int(u.Gpu), int(u.Memory)
	}
	return ret
}

// memory is what programs hold, as nvidia-smi shows it. The first version of the question counts what the driver keeps
// for itself as used: some hundred MiB of an idle card.
func (n *NVML) memory(d nvml.Device, t *models.Telemetry) nvml.Return {
	if n.reservedApart {
		m, ret := d.GetMemoryInfo_v2()
		if ret == nvml.SUCCESS {
			t.MemoryUsed = int64(m.Used)
		}
		if ret != nvml.ERROR_NOT_SUPPORTED && ret != nvml.ERROR_ARGUMENT_VERSION_MISMATCH {
			return ret
		}
	}
	m, ret := d.GetMemoryInfo()
	if ret == nvml.SUCCESS {
		t.MemoryUsed = int64(m.Used)
	}
	return ret
}

func temperature(d nvml.Device, t *models.Telemetry) nvml.Return {
	c, ret := d.GetTemperature(nvml.TEMPERATURE_GPU)
	if ret == nvml.SUCCESS {
		t.Temperature = int(c)
	}
	return ret
}

// power is milliwatts in NVML.
func power(d nvml.Device, t *models.Telemetry) nvml.Return {
	mw, ret := d.GetPowerUsage()
	if ret == nvml.SUCCESS {
		t.Power = float64(mw) / 1000
	}
	return ret
}

func powerLimit(d nvml.Device, t *models.Telemetry) nvml.Return {
	mw, ret := d.GetEnforcedPowerLimit()
	if ret == nvml.SUCCESS {
		t.PowerLimit = float64(mw) / 1000
	}
	return ret
}

func clockSM(d nvml.Device, t *models.Telemetry) nvml.Return {
	mhz, ret := d.GetClockInfo(nvml.CLOCK_SM)
	if ret == nvml.SUCCESS {
		t.ClockSM = int(mhz)
	}
	return ret
}

func clockMem(d nvml.Device, t *models.Telemetry) nvml.Return {
	mhz, ret := d.GetClockInfo(nvml.CLOCK_MEM)
	if ret == nvml.SUCCESS {
		t.ClockMem = int(mhz)
	}
	return ret
}

func eccErrors(d nvml.Device, t *models.Telemetry) nvml.Return {
	count, ret := d.GetTotalEccErrors(nvml.MEMORY_ERROR_TYPE_UNCORRECTED, nvml.VOLATILE_ECC)
	if ret == nvml.SUCCESS {
		t.ECCErrors = count
	}
	return ret
}

// fault is the card's last XID, after what has been reported since the last look. Waiting for 0 ms only takes what is
// there.
func (n *NVML) fault(uuid string) uint64 {
	n.mu.Lock()
	defer n.mu.Unlock()
	for range faultsPerRead {
		if n.events == nil {
			break
		}
		e, ret := n.events.Wait(0)
		if ret != nvml.SUCCESS {
			break
		}
		if e.EventType != nvml.EventTypeXidCriticalError || e.Device == nil {
			continue
		}
		if id, ret := e.Device.GetUUID(); ret == nvml.SUCCESS {
			n.faults[id] = e.EventData
		}
	}
	return n.faults[uuid]
}
