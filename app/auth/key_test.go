package auth_test

import (
	"crypto/sha256"
	"encoding/hex"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"comfyfleet/app/auth"
	"comfyfleet/models"
)

func TestNewKeysAreWellFormedUniqueAndDescribed(t *testing.T) {
	seen := map[string]bool{}
	for range 200 {
		key, k := auth.NewKey()
		require.Regexp(t, `^cfk_[0-9A-Za-z]{49}$`, key)
		require.True(t, auth.WellFormed(key), key)
		require.False(t, seen[key])
		seen[key] = true
		sum := sha256.Sum256([]byte(key))
		require.Equal(t, models.APIKey{Prefix: key[:12], Hash: hex.EncodeToString(sum[:])}, k)
	}
}

func TestChecksumFindsAnyChangedCharacter(t *testing.T) {
	const digits = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
	key, _ := auth.NewKey()
	rapid.Check(t, func(t *rapid.T) {
		i := rapid.IntRange(4, len(key)-1).Draw(t, "position")
		c := rapid.SampledFrom([]byte(digits)).Draw(t, "digit")
		changed := key[:i] + string(c) + key[i+1:]
		if auth.WellFormed(changed) != (changed == key) {
			t.Fatalf("%s for %s", changed, key)
		}
	})
}

func TestWellFormedRefusesOtherForms(t *testing.T) {
	key, _ := auth.NewKey()
	for _, bad := range []string{"", "cfk_", key[:52], key + "0", "cfx_" + key[4:], strings.ToUpper(key), " " + key[1:], "cfk_" + strings.Repeat("é", 21) + "x" + key[47:]} {
		assert.False(t, auth.WellFormed(bad), "%q", bad)
	}
}

func TestDescribeKeyTakesABootstrapKeyOfAnyForm(t *testing.T) {
	k := auth.DescribeKey("a bootstrap key of our own")
	assert.Equal(t, "a bootstrap ", k.Prefix)
	assert.Equal(t, auth.HashKey("a bootstrap key of our own"), k.Hash)
	assert.Equal(t, "short", auth.DescribeKey("short").Prefix)
}

func TestScopesParseNormalisedAndRefuseUnknownOnes(t *testing.T) {
	all, err := auth.ParseScopes("")
	require.NoError(t, err)
	assert.Equal(t, "jobs:write jobs:read workflows:read usage:read", all)
	some, err := auth.ParseScopes("usage:read,jobs:read usage:read")
	require.NoError(t, err)
	assert.Equal(t, "jobs:read usage:read", some)
	_, err = auth.ParseScopes("jobs:read jobs:delete")
	assert.Equal(t, models.CodeInvalid, models.ErrorCode(err))
	assert.ErrorContains(t, err, "jobs:delete")
}

func TestPrincipalHasExactlyItsKeysScopes(t *testing.T) {
	p := auth.Principal{Key: models.APIKey{Scopes: "jobs:read usage:read"}}
	assert.True(t, p.Has(models.ScopeRead))
	assert.NoError(t, p.Require(models.ScopeUsage))
	assert.False(t, p.Has(models.ScopeSubmit))
	assert.False(t, p.Has("jobs:"))
	assert.False(t, p.Has(""))
	err := p.Require(models.ScopeSubmit)
	assert.Equal(t, models.CodeForbidden, models.ErrorCode(err))
	assert.ErrorContains(t, err, "jobs:write")
}
