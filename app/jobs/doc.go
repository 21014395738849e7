// Package jobs moves a job from request to output: Submit accepts it, the dispatcher claims it for a worker, run takes
// one attempt through the fleet, collect stores what came out, and the hub tells followers.
//
// Everything that the HTTP edges and the commands do to a job goes through Service.
package jobs
