package sim

import (
	"maps"
	"slices"
)

// catalogue is every class that a server knows, by name.
type catalogue map[string]*Class

// newCatalogue collects the class tables; the Sim* nodes only when asked for.
func newCatalogue(testNodes bool) catalogue {
	tables := [][]*Class{imageClasses(), textClasses(), saveClasses(), loaderClasses(), samplingClasses(), customClasses()}
	if testNodes {
		tables = append(tables, testClasses())
	}
	all := catalogue{}
	for _, table := range tables {
		for _, c := range table {
			all[c.Name] = c
		}
	}
	return all
}

// names are the class names in order.
func (c catalogue) names() []string { return slices.Sorted(maps.Keys(c)) }

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
