// Package mls implements the groups of Messaging Layer Security, RFC 9420, as
// bytes in, bytes out: no network, no disk, no clock, no goroutines unless the caller
// asks for them with an option called Parallel.
//
// A [Group] is one member's view of one group. Making or receiving a Commit
// does not change it: both give a [StagedCommit], whose next state can be
// stored before the Commit is published, and which takes effect with
// [Group.Merge]. A call that fails leaves the group as it was.
//
// An [ArchiveRecord] holds what reading the messages of one epoch takes, and
// nothing that leads to another epoch.
//
// Who may call themselves what is not known here: the application's
// [CredentialValidator] is asked about every new credential, and decides about
// external joins too.
//
// Nothing in this package is safe for concurrent use unless it says so.
//
// The files follow the chapters of the RFC:
//
//	suite.go, internal/labeled                     5.1
//	credential.go, credential_x509.go              5.3
//	message.go, framing.go                         6
//	content_auth.go                                5.2, 6.1
//	public_message.go, private_message.go          6.2, 6.3
//	tree.go, internal/treemath                     7.1, 7.7, appendix C
//	leaf_node.go, leaf_validate.go                 7.2, 7.3
//	path.go, update_path.go                        7.4 to 7.6
//	tree_hash.go, parent_hash.go                   7.8, 7.9
//	key_schedule.go, group_context.go, advance.go  8, 8.1
//	transcript.go                                  8.2
//	psk.go, exporter.go                            8.4 to 8.7
//	secret_tree.go, ratchet.go                     9
//	key_package.go, key_package_secrets.go         10
//	group.go, group_create.go                      11
//	successor.go, successor_join.go                11.2, 11.3
//	proposal.go, propose.go                        12.1
//	external_propose.go                            12.1.8
//	proposal_{list,select,fit}.go                  12.2
//	proposal_apply.go                              12.3
//	commit.go, commit_create.go                    12.4, 12.4.1
//	process.go, commit_process.go, staged.go       12.4.2
//	welcome.go, join.go, tree_validate.go          12.4.3.1
//	external.go, external_join.go                  12.4.3.2
//	tree_codec.go                                  12.4.3.3
//	extension.go, grease.go                        13
//	application.go                                 15
//	state.go, archive.go, archive_open.go          (storage formats)
//	parallel.go                                    (work spread by Parallel, batches)
package mls
