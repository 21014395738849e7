// Package config holds the settings of comfyfleet: each declared once, with its default, its environment variable, its
// check and whether it is a secret. Flags win over the environment, which wins over the YAML file, which wins over the
// default; the command line library merges them (see Kong), and Sources says which one it was.
package config
