package auth

import (
	"unicode/utf8"

	"github.com/alexedwards/argon2id"

	"comfyfleet/models"
)

const (
	// MinPassword is in characters: NIST SP 800-63B's floor for a password that is not the only protection; the
	// throttle is the other one.
	MinPassword = 8
	// maxPassword is in bytes. It bounds the work; nobody types more.
	maxPassword = 1024
)

// unknownHash is of a random password that nobody kept. Checking against it costs what a real check costs, so that the
// time of a refusal does not tell whether the e-mail exists. Its parameters are those of passwordCost.
const unknownHash = "$argon2id$v=19$m=19456,t=2,p=1$bgzgB/hbtOiiH4RygiTeZQ$4Qk/nLI1Goc7vD82dfN9DwjlpAY5O7P+RAmOkgoLkDU"

// passwordCost is OWASP's first choice for argon2id: 19 MiB, two passes, one lane. About 40 ms here.
func passwordCost() *argon2id.Params {
	return &argon2id.Params{Memory: 19 * 1024, Iterations: 2, Parallelism: 1, SaltLength: 16, KeyLength: 32}
}

// HashPassword is what is stored of a password: argon2id in PHC form. CodeInvalid when it is too short or too long.
func HashPassword(password string) (string, error) {
	if utf8.RuneCountInString(password) < MinPassword {
		return "", models.FieldErrorf(models.CodeInvalid, "weak_password", "password", "must have %d characters or more", MinPassword)
	}
	if len(password) > maxPassword {
		return "", models.FieldErrorf(models.CodeInvalid, "weak_password", "password", "must be at most %d bytes", maxPassword)
	}
	return argon2id.CreateHash(password, passwordCost())
}

// CheckPassword reports whether password is the one that hash was made of. Pass "" as the hash of an unknown operator:
// it takes as long. Run it under Throttle.Begin.
func CheckPassword(hash, password string) bool {
	known := hash != ""
	if !known {
		hash = unknownHash
	}
	if len(password) > maxPassword {
		password = password[:maxPassword+1] // cannot be right, and must not cost more
	}
	match, err := argon2id.ComparePasswordAndHash(password, hash)
	return known && err == nil && match
}
