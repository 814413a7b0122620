#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (C) the Hostel authors
# In a guest that starts for the first time, before its own init: makes the image this guest's own, from the files in
# /run/hostel-seed: id, hostname, user, password (as in shadow(5)), keys, grow, user-data.
export PATH=/usr/sbin:/usr/bin LC_ALL=C.UTF-8
seed=/run/hostel-seed

hostname=$(cat $seed/hostname)
echo "$hostname" >/etc/hostname
printf '127.0.0.1 localhost\n127.0.1.1 %s\n::1 localhost ip6-localhost ip6-loopback\n' "$hostname" >/etc/hosts
tr -d - </proc/sys/kernel/random/uuid >/etc/machine-id

[ ! -e $seed/grow ] || resize2fs /dev/vda >/dev/null 2>&1 || echo "hostel: the file system could not be grown"

# Not RSA: it takes longest to make, and no client of the last ten years needs it.
for type in ed25519 ecdsa; do
    key=/etc/ssh/ssh_host_${type}_key
    [ -e $key ] || ssh-keygen -q -t $type -N '' -C "root@$hostname" -f $key
done

if [ -e $seed/user ]; then
    user=$(cat $seed/user)
    if [ "$user" = root ]; then
        home=/root
    else
        home=/home/$user
        id "$user" >/dev/null 2>&1 || useradd -m -s /bin/bash -G adm,sudo "$user"
    fi
    if [ -e $seed/password ]; then
        printf '%s:%s\n' "$user" "$(cat $seed/password)" | chpasswd -e
    elif [ "$user" != root ]; then
        # Somebody who logs in by key has no password that sudo could ask for.
        echo "$user ALL=(ALL) NOPASSWD: ALL" >/etc/sudoers.d/90-hostel
        chmod 0440 /etc/sudoers.d/90-hostel
    fi
    if [ -e $seed/keys ]; then
        mkdir -p -m 0700 "$home/.ssh"
        cat $seed/keys >"$home/.ssh/authorized_keys"
        chmod 0600 "$home/.ssh/authorized_keys"
        chown -R "$user:" "$home/.ssh"
    fi
fi

if [ -e $seed/user-data ]; then
    cloud=/var/lib/cloud/seed/nocloud
    mkdir -p $cloud
    cp $seed/user-data $cloud/user-data
    printf 'instance-id: %s\nlocal-hostname: %s\n' "$(cat $seed/id)" "$hostname" >$cloud/meta-data
    chmod 0600 $cloud/*
    # The network is up already, and the user above keeps the password that was given.
    cat >/etc/cloud/cloud.cfg.d/90_hostel.cfg <<END
datasource_list: [NoCloud]
network: {config: disabled}
system_info:
  default_user: {name: $(cat $seed/user), lock_passwd: false}
END
fi

cp $seed/id /var/lib/hostel-seed
sync
