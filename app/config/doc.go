// Package config holds the settings of comfyfleet: each declared once, with its default, its environment variable, its
// check and whether it is a secret. Flags win over the environment, which wins over the YAML file, which wins over the
// default. kong reads flags, environment and defaults from the tags of Settings; Resolver adds the file, Check names
// everything that is wrong before kong stops at the first, and NoteSources remembers where each value came from.
package config
