// The real LevelDB as a judge, with the options that no binding for Python has: a program of our own, linked with Debian's
// libleveldb-dev. Everything is in hex.
//
//   judge [reuse] [paranoid] dump DIR      every key through an iterator, and what Get says of it: "key value get"
//   judge [reuse] [paranoid] apply DIR     operations from stdin, "put KEY VALUE" or "delete KEY"
//   judge [reuse] [paranoid] compact DIR   CompactRange over everything
//   judge repair DIR                       RepairDB
//
// reuse: Options::reuse_logs, as Chromium sets it: the log and the manifest that are there are gone on with.
#include <leveldb/db.h>

#include <cstdio>
#include <cstdlib>
#include <iostream>
#include <string>

namespace {

void Must(const leveldb::Status& status) {
  if (!status.ok()) {
    std::cerr << status.ToString() << "\n";
    std::exit(2);
  }
}

std::string Hex(const leveldb::Slice& data) {
  std::string text;
  char digits[3];
  for (size_t at = 0; at < data.size(); ++at) {
    std::snprintf(digits, sizeof digits, "%02x", static_cast<unsigned char>(data[at]));
    text += digits;
  }
  return text.empty() ? "-" : text;
}

std::string Unhex(const std::string& text) {
  std::string data;
  for (size_t at = 0; at + 1 < text.size(); at += 2) {
    data += static_cast<char>(std::stoi(text.substr(at, 2), nullptr, 16));
  }
  return data;
}

void Dump(leveldb::DB* db) {
  leveldb::ReadOptions options;
  options.verify_checksums = true;
  leveldb::Iterator* iterator = db->NewIterator(options);
  for (iterator->SeekToFirst(); iterator->Valid(); iterator->Next()) {
    std::string value;
    leveldb::Status status = db->Get(options, iterator->key(), &value);
    if (!status.IsNotFound()) Must(status);
    std::cout << Hex(iterator->key()) << " " << Hex(iterator->value()) << " "
              << (status.IsNotFound() ? "absent" : Hex(value)) << "\n";
  }
  Must(iterator->status());
  delete iterator;
}

void Apply(leveldb::DB* db) {
  std::string verb, key, value;
  while (std::cin >> verb >> key) {
    if (verb == "put") {
      std::cin >> value;
      Must(db->Put(leveldb::WriteOptions(), Unhex(key), value == "-" ? "" : Unhex(value)));
    } else {
      Must(db->Delete(leveldb::WriteOptions(), Unhex(key)));
    }
  }
}

}  // namespace

int main(int count, char** words) {
  leveldb::Options options;
  options.create_if_missing = true;
  options.write_buffer_size = 64 << 20;
  int at = 1;
  for (; at < count - 2; ++at) {
    if (std::string(words[at]) == "reuse") options.reuse_logs = true;
    if (std::string(words[at]) == "paranoid") options.paranoid_checks = true;
  }
  const std::string verb = words[at], directory = words[at + 1];
  if (verb == "repair") {
    Must(leveldb::RepairDB(directory, options));
    return 0;
  }
  leveldb::DB* db = nullptr;
  Must(leveldb::DB::Open(options, directory, &db));
  if (verb == "dump") Dump(db);
  if (verb == "apply") Apply(db);
  if (verb == "compact") db->CompactRange(nullptr, nullptr);
  delete db;
  return 0;
}
