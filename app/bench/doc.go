// Command bench prints one table of figures of a running comfyfleet, each beside what it is measured against: the engine
// alone, the store alone, the disk, or a page that does nothing. `make bench` runs it.
//
// The service is a real `comfyfleet serve` with simulated workers, asked over HTTP with a key on loopback; nothing
// leaves the machine. Load generator, service and engines share the machine's cores, so a figure is a lower bound, and
// the ratio beside it says more than the number. Rows run one after the other and each starts what it needs in a
// directory of its own, so that one can run alone: -run name.
package main
