package config

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/alecthomas/kong"
	"gopkg.in/yaml.v3"
)

// ReadFile reads the YAML file of settings: one flat map, with the names of the flags. An unknown name is an error: it
// would be a setting that silently does nothing.
func ReadFile(path string) (map[string]any, error) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("config file: %w", err)
	}
	values := map[string]any{}
	if err := yaml.Unmarshal(raw, &values); err != nil {
		return nil, fmt.Errorf("config file %s: %w", path, err)
	}
	known := map[string]bool{}
	for _, v := range (&Settings{}).Values() {
		known[v.Name] = true
	}
	var problems []error
	for _, name := range slices.Sorted(maps.Keys(values)) {
		if !known[name] {
			problems = append(problems, fmt.Errorf("config file %s: no setting %q", path, name))
		}
	}
	return values, errors.Join(problems...)
}

// Resolver gives kong the values of a file. Kong asks it after flags and the environment.
func Resolver(values map[string]any) kong.Resolver {
	return kong.ResolverFunc(func(_ *kong.Context, _ *kong.Path, flag *kong.Flag) (any, error) {
		v, ok := values[flag.Name]
		if !ok {
			return nil, nil
		}
		if list, ok := v.([]any); ok {
			words := make([]string, len(list))
			for i, w := range list {
				words[i] = fmt.Sprint(w)
			}
			return strings.Join(words, ","), nil
		}
		return fmt.Sprint(v), nil
	})
}
